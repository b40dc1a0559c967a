#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/kinds.h"

namespace tandem {

// Where the work of a step runs. A plan has routes, and a step names the one it takes. A route is a
// list of stages in the order in which the residual stream passes them; where two neighbours stand
// on different workers an edge joins them.

// kQkv, kAttend and kOutput are attention cut into the products of queries, keys and values,
// attention itself, which has the cache, and the product of its output. The residual stays with the
// worker of kQkv and kOutput meanwhile.
enum class StagePart : std::uint8_t {
  kEmbed,
  kAttention,
  kQkv,
  kAttend,
  kOutput,
  kFfn,
  kBoth,
  kHead
};
template <>
inline constexpr EnumName<StagePart> kEnumNames<StagePart>[] = {
    {StagePart::kEmbed, "embed"},   {StagePart::kAttention, "attention"},
    {StagePart::kQkv, "qkv"},       {StagePart::kAttend, "attend"},
    {StagePart::kOutput, "output"}, {StagePart::kFfn, "ffn"},
    {StagePart::kBoth, "both"},     {StagePart::kHead, "head"}};

// Whether it has the keys and values of its layers.
inline bool Attends(StagePart part) {
  return part == StagePart::kAttention || part == StagePart::kAttend || part == StagePart::kBoth;
}

struct StagePlacement {
  std::string worker;  // the worker's name, e.g. "gpu0"
  StagePart part = StagePart::kBoth;
  std::int32_t first_layer = 0;  // layers [first_layer, last_layer); both 0 for embed and head
  std::int32_t last_layer = 0;
  bool operator==(const StagePlacement&) const = default;
};

// Which steps take a route.
enum class RouteUse : std::uint8_t { kAll, kDecode, kPrefill };
template <>
inline constexpr EnumName<RouteUse> kEnumNames<RouteUse>[] = {
    {RouteUse::kAll, "all"}, {RouteUse::kDecode, "decode"}, {RouteUse::kPrefill, "prefill"}};

struct PlanRoute {
  RouteUse use = RouteUse::kAll;
  std::vector<StagePlacement> stages;
  bool operator==(const PlanRoute&) const = default;
};

// Indices of a plan's routes. The first one takes all steps where it is the only one.
inline constexpr std::int32_t kDecodeRoute = 0;
inline constexpr std::int32_t kPrefillRoute = 1;

struct Plan {
  std::string name;  // "gpu", "npu", "split", "hybrid", "layers"
  // One for all steps, or that of decode and that of prefill.
  std::vector<PlanRoute> routes;
};

// What the planner knows of a worker.
struct PlanWorker {
  std::string name;
  WorkerRole role = WorkerRole::kGpu;
};

// Builds a named plan: `gpu`, `npu` (everything on the first worker of that role), `split`
// (attention on the first npu worker, FFN on the first gpu worker), `hybrid` (all of decode on the
// first gpu worker; in prefill all products of layers on the first npu worker), `layers`
// (consecutive layers over all workers, in order, as even as possible; "layers:13,13" gives the
// counts). Embedding and head are one tensor, so they always stand together on one worker: the one
// that ends the last layer, or in `hybrid` the gpu worker. That keeps one copy of it, and makes the
// token sampled by the head known where the next step embeds it. INVALID_ARGUMENT names what is
// missing.
absl::StatusOr<Plan> MakePlan(std::string_view name, const ModelConfig& config,
                              const std::vector<PlanWorker>& workers);

// The plan for the workers that there are: auto with both roles, else the one there is.
std::string DefaultPlanName(const std::vector<WorkerRole>& roles);
// What can be said of a plan's name before the model is known: that it is one, and that the workers
// it needs are there.
absl::Status CheckPlanName(std::string_view name, const std::vector<WorkerRole>& roles);

// In every route: every layer's attention (whole, or cut in three) and FFN exactly once, in order;
// embed first, head last, both on one worker; qkv and output of a layer on one worker, attend on
// another; workers known. In all routes alike: the worker with the head, and those of
// each layer's attention, because it keeps the layer's keys and values.
absl::Status ValidatePlan(const Plan& plan, const ModelConfig& config,
                          const std::vector<PlanWorker>& workers);

// The worker that embeds and samples.
const std::string& HeadWorkerOf(const Plan& plan);

// Those that have a part in any route.
std::set<std::string> WorkersOf(const Plan& plan);

// Which weight regions (lib/model/tensors.h RegionName) a worker of the plan maps, for all routes.
std::vector<std::string> RegionsOf(const Plan& plan, std::string_view worker);

// Joins two neighbouring stages of a route on different workers. All hops from one worker to
// another share one edge, whatever route they belong to.
struct PlanEdge {
  std::string from;
  std::string to;
  bool operator==(const PlanEdge&) const = default;
};
std::vector<PlanEdge> EdgesOf(const Plan& plan);  // each (from, to) once, in order of first use

// Values of the widest row that passes an edge of the plan.
std::int32_t EdgeColumns(const Plan& plan, const PlanEdge& edge, const ModelConfig& config);

}  // namespace tandem
