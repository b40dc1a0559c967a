#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/model/config.h"
#include "lib/model/plan.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// What the loader told of the model, and how this cluster serves it. Fixed from Cluster::Start on.
struct ServedModel {
  ModelConfig config;  // eos_ids end a generation
  Vocabulary vocabulary;
  std::string weight_format;       // bf16, int8, int4, mixed
  std::uint64_t weight_bytes = 0;  // all regions
  std::vector<std::string> files;  // base names
  std::string fingerprint;
  std::int32_t context_tokens = 0;  // prompt and completion of one request together
  Plan plan;
};

// How the cluster is doing: proto/tandem/v1/inference.proto ClusterStatus has the same fields.
struct WorkerStatus {
  std::string name;
  WorkerRole role = WorkerRole::kGpu;
  std::int64_t pid = 0;  // 0 and empty texts: it has never answered
  std::string device_kind;
  std::string device_name;
  std::string driver;
  bool connected = false;  // takes part in the steps now
  std::string address;
  std::vector<std::string> weight_imports;  // "layer.0.attention: zero-copy"
};

struct EdgeStatus {
  std::string id;
  std::string from;
  std::string to;
  std::string kind;  // dma-buf, host-pointer, inline
};

struct StageStatus {
  std::string name;
  std::string worker;
  std::string device;
};

struct ClusterStatus {
  std::string state;   // starting, ready, recovering, failed
  std::string detail;  // one line for people
  std::string plan;
  std::string model;
  std::string weight_format;
  std::vector<WorkerStatus> workers;
  std::vector<EdgeStatus> edges;
  std::vector<StageStatus> stages;
  double decode_tokens_per_second = 0;  // over the last ten seconds
  double prefill_tokens_per_second = 0;
  std::int32_t running = 0;
  std::int32_t waiting = 0;
  std::uint64_t requests_total = 0;  // accepted since the start
  std::uint64_t tokens_total = 0;    // generated since the start
  std::uint64_t recoveries = 0;
};

}  // namespace tandem
