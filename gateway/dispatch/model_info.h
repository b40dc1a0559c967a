#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/model/config.h"
#include "lib/model/device_report.h"
#include "lib/model/kinds.h"
#include "lib/text/vocabulary.h"

namespace tandem {

// What the loader says of the model, and how this cluster serves it. Fixed from Cluster::Start on.
struct ServedModel {
  // eos_ids end a generation.
  ModelConfig config;
  Vocabulary vocabulary;
  // bf16, int8, int4, mixed.
  std::string weight_format;
  // All regions.
  std::uint64_t weight_bytes = 0;
  // Base names.
  std::vector<std::string> files;
  std::string fingerprint;
  // Where the loader's own /metrics listens; empty: nowhere.
  std::string loader_metrics;
  // Prompt and completion of one request together.
  std::int32_t context_tokens = 0;
};

// How the cluster is doing: proto/tandem/v1/inference.proto ClusterStatus has the same fields.
struct WorkerStatus {
  std::string name;
  WorkerRole role = WorkerRole::kGpu;
  // 0 and empty texts: it has never answered.
  std::int64_t pid = 0;
  std::string device_kind;
  std::string device_name;
  std::string driver;
  // The plan has a part for it.
  bool in_plan = false;
  // Takes part in the steps now.
  bool connected = false;
  std::string address;
  // "layer.0.attention: zero-copy"
  std::vector<std::string> weight_imports;
  DeviceReport device;
  // Where its own /metrics listens; empty: nowhere.
  std::string metrics;
  // Other processes that have taken its place since the gateway's start.
  std::uint32_t restarts = 0;
  // Share of the last ten seconds in which its stages ran.
  double busy = 0;
};

// A group of blocks of the KV cache.
struct KvStatus {
  // global, window
  std::string group;
  std::int32_t blocks = 0;
  // For the requests that run: what admission counts.
  std::int32_t reserved = 0;
  // Hold keys and values now.
  std::int32_t taken = 0;
};

struct EdgeStatus {
  std::string id;
  std::string from;
  std::string to;
  // dma-buf, host-pointer, inline.
  std::string kind;
};

struct StageStatus {
  std::string name;
  std::string worker;
  std::string device;
};

// The last change of the plan that was asked for.
struct PlanChange {
  // Counts from 1; 0: none was.
  std::uint64_t number = 0;
  std::string from;
  std::string to;
  // running, done, failed
  std::string state;
  // Of one that failed; the plan is then the one before.
  std::string error;
};

struct ClusterStatus {
  // Starting, ready, changing, recovering, failed.
  std::string state;
  // One line for people.
  std::string detail;
  std::string plan;
  std::string model;
  // It embeds and generates nothing.
  bool encoder = false;
  std::string weight_format;
  std::vector<WorkerStatus> workers;
  std::vector<EdgeStatus> edges;
  std::vector<StageStatus> stages;
  // Over the last ten seconds.
  double decode_tokens_per_second = 0;
  double prefill_tokens_per_second = 0;
  std::int32_t running = 0;
  std::int32_t waiting = 0;
  // Accepted since the start.
  std::uint64_t requests_total = 0;
  // Generated since the start.
  std::uint64_t tokens_total = 0;
  std::uint64_t recoveries = 0;
  std::vector<KvStatus> kv;
  std::int32_t running_limit = 0;
  std::int32_t waiting_limit = 0;
  std::string loader_metrics;
  PlanChange plan_change;
};

}  // namespace tandem
