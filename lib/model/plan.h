#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/kinds.h"

namespace tandem {

// Where the work of a step runs. A plan is a list of stages in the order in which the residual
// stream passes them; where two neighbours stand on different workers an edge joins them.

enum class StagePart : std::uint8_t { kEmbed, kAttention, kFfn, kBoth, kHead };
template <>
inline constexpr EnumName<StagePart> kEnumNames<StagePart>[] = {
    {StagePart::kEmbed, "embed"},
    {StagePart::kAttention, "attention"},
    {StagePart::kFfn, "ffn"},
    {StagePart::kBoth, "both"},
    {StagePart::kHead, "head"}};

struct StagePlacement {
  std::string worker;  // the worker's name, e.g. "gpu0"
  StagePart part = StagePart::kBoth;
  std::int32_t first_layer = 0;  // layers [first_layer, last_layer); both 0 for embed and head
  std::int32_t last_layer = 0;
  bool operator==(const StagePlacement&) const = default;
};

struct Plan {
  std::string name;  // "gpu", "npu", "split", "layers"
  std::vector<StagePlacement> stages;
};

// What the planner knows of a worker.
struct PlanWorker {
  std::string name;
  WorkerRole role = WorkerRole::kGpu;
};

// Builds a named plan: `gpu`, `npu` (everything on the first worker of that role), `split`
// (attention on the first npu worker, FFN on the first gpu worker) or `layers` (consecutive layers
// over all workers, in order, as even as possible; "layers:13,13" gives the counts). Embedding and
// head are one tensor, so they always stand together on one worker: the one that ends the last
// layer. That keeps one copy of it, and makes the token sampled by the head known where the next
// step embeds it. INVALID_ARGUMENT names what is missing.
absl::StatusOr<Plan> MakePlan(std::string_view name, const ModelConfig& config,
                              const std::vector<PlanWorker>& workers);

// The plan for the workers that there are: auto with both roles, else the one there is.
std::string DefaultPlanName(const std::vector<WorkerRole>& roles);
// What can be said of a plan's name before the model is known: that it is one, and that the workers
// it needs are there.
absl::Status CheckPlanName(std::string_view name, const std::vector<WorkerRole>& roles);

// Every layer's attention and FFN exactly once, in order; embed first, head last, both on one
// worker; workers known.
absl::Status ValidatePlan(const Plan& plan, const ModelConfig& config,
                          const std::vector<PlanWorker>& workers);

// Which weight regions (lib/model/tensors.h RegionName) a worker of the plan maps.
std::vector<std::string> RegionsOf(const Plan& plan, std::string_view worker);

// Index pairs (i, i+1) of plan.stages that stand on different workers. All hops from one worker to
// another share one edge.
struct PlanEdge {
  std::string from;
  std::string to;
  bool operator==(const PlanEdge&) const = default;
};
std::vector<PlanEdge> EdgesOf(const Plan& plan);  // each (from, to) once, in order of first use

}  // namespace tandem
