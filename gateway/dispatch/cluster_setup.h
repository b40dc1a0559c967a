#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/dispatch/cluster.h"
#include "gateway/dispatch/recovery.h"
#include "gateway/schedule/scheduler.h"
#include "lib/model/config.h"
#include "lib/model/plan.h"
#include "lib/model/step_limits.h"
#include "tandem/v1/loader.pb.h"

// Options and model checked against each other, and all sizes that follow. Pure functions.
namespace tandem {

// How many KV blocks a cluster has. Global layers keep every position of a request, sliding-window
// layers only the window.
struct KvPlan {
  std::int32_t context_tokens = 0;
  std::int32_t global_blocks = 0;
  std::int32_t window_blocks = 0;
  // Keys and values of all layers.
  std::uint64_t bytes = 0;
};

struct KvPlanRequest {
  // Wanted; at most the model's max_positions is given.
  std::int32_t context_tokens = 0;
  // max_tokens, max_sequences
  StepLimits limits;
  // For the whole cache. Unless it is hard, one full context is always granted.
  std::uint64_t memory_bytes = 0;
  bool memory_is_hard = false;
  // Of a key or value.
  std::int32_t element_bytes = 4;
};

// As many full contexts as the memory holds, at least one, at most max_sequences. INVALID_ARGUMENT
// when a hard limit does not hold one.
absl::StatusOr<KvPlan> PlanKvCache(const ModelConfig& config, const KvPlanRequest& request);

// Whether a step passes back and forth between workers, so that two of them can compute at once
// when it is cut into micro-batches.
bool StagesAlternate(const Plan& plan);

// What Cluster::Start has made out of options and model.
struct ClusterSetup {
  ClusterOptions options;
  ServedModel model;
  // model.config again, as it is sent.
  v1::ModelConfig config;
  KvPlan kv;
  // Those of the plan; their order gives a worker's index.
  std::vector<ClusterWorker> workers;
  // All that the plan needs.
  std::vector<std::string> regions;
  RecoveryOptions recovery;
  SchedulerOptions scheduler;
  std::size_t head = 0;
};
absl::StatusOr<ClusterSetup> MakeClusterSetup(ClusterOptions options, const v1::Model& model);

}  // namespace tandem
