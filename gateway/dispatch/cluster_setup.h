#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/dispatch/cluster.h"
#include "gateway/dispatch/cluster_plan.h"
#include "gateway/dispatch/recovery.h"
#include "gateway/schedule/scheduler.h"
#include "lib/model/config.h"
#include "lib/model/kinds.h"
#include "lib/model/plan.h"
#include "lib/model/step_limits.h"
#include "tandem/v1/loader.pb.h"
#include "tandem/v1/worker.pb.h"

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
  KvType type = KvType::kFloat32;
};

// As many full contexts as the memory holds, at least one, at most max_sequences. INVALID_ARGUMENT
// when a hard limit does not hold one.
absl::StatusOr<KvPlan> PlanKvCache(const ModelConfig& config, const KvPlanRequest& request);

// What a worker with attention layers has for its part of the cache.
struct KvWorker {
  std::string name;
  std::int32_t global_layers = 0;
  std::int32_t window_layers = 0;
  std::uint64_t memory_bytes = 0;
};
// Its layers under `plan`; no memory yet.
KvWorker KvLayersOf(const Plan& plan, const ModelConfig& config, const std::string& worker);
// Of a worker that describes itself so and holds `weight_bytes` of weights: on a device with memory
// of its own what the weights and scratch leave, else the share that it names, or
// kDefaultKvMemoryBytes where it names none.
std::uint64_t KvMemoryOf(const v1::DeviceDescription& device, std::uint64_t weight_bytes);
// As many full contexts as every worker holds its layers of, at most max_sequences; the request's
// memory does not count. RESOURCE_EXHAUSTED names a worker that does not hold one.
absl::StatusOr<KvPlan> PlanKvCacheOver(const ModelConfig& config, const KvPlanRequest& request,
                                       const std::vector<KvWorker>& workers);

// Whether the workers of a plan have the memory that it needs, for weights that a device must copy
// and for one context. `devices`: of all workers, by index. RESOURCE_EXHAUSTED names the worker.
struct PlanMemory {
  const ModelConfig& config;
  const KvPlanRequest& kv_request;
  // The workers' memory decides on the KV cache.
  bool kv_by_workers = false;
  const std::vector<std::pair<std::string, std::uint64_t>>& region_bytes;
};
absl::Status CheckPlanMemory(const Plan& plan, const PlanMemory& memory,
                             const std::vector<v1::WorkerDescription>& workers);

// Tokens of a micro-batch of prompts that have a route of their own, where nobody says how many a
// step has: the NPU's array takes 256 or 512 at once, and reads all weights for each time.
inline constexpr std::int32_t kPrefillChunkTokens = 1024;

// What Cluster::Start has made out of options and model.
struct ClusterSetup {
  ClusterOptions options;
  ServedModel model;
  // model.config again, as it is sent.
  v1::ModelConfig config;
  KvPlanRequest kv_request;
  // One context where the workers' memory is to decide (kv_by_workers): see SizePlan.
  KvPlan kv;
  bool kv_by_workers = false;
  // The one to begin with.
  SharedPlan plan;
  // Those to try first, where kAutoPlan has more than one to choose from.
  std::vector<std::string> auto_plans;
  RecoveryOptions recovery;
  SchedulerOptions scheduler;

  // Their order gives a worker's index.
  const std::vector<ClusterWorker>& workers() const { return options.workers; }
};
absl::StatusOr<ClusterSetup> MakeClusterSetup(ClusterOptions options, const v1::Model& model);

// What follows for the scheduler and the workers from a plan and the memory that there is.
struct PlanSizes {
  KvPlan kv;
  // setup.scheduler.limits with the plan's bounds of tokens.
  StepLimits limits;
};
// `workers`: those with attention layers under the plan, where their memory decides. Prompts with a
// route of their own have kPrefillChunkTokens in each micro-batch, or half of that and so on down
// to what steps have otherwise, until the cache for one full context has room; as many as somebody
// said, where somebody did. What decodes keeps to the bound of other plans. Errors are those of the
// cache.
absl::StatusOr<PlanSizes> SizePlan(const ClusterSetup& setup, const ClusterPlan& plan,
                                   const std::vector<KvWorker>& workers);

}  // namespace tandem
