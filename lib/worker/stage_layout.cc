#include "lib/worker/stage_layout.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// The half layers of one placement.
std::pair<std::int32_t, std::int32_t> HalvesOf(const StagePlacement& placement,
                                               const ModelConfig& config) {
  switch (placement.part) {
    case StagePart::kEmbed:
      return {0, 0};
    case StagePart::kAttention:
    case StagePart::kQkv:
    case StagePart::kAttend:
    case StagePart::kOutput:
      return {2 * placement.first_layer, 2 * placement.last_layer - 1};
    case StagePart::kFfn:
      return {2 * placement.first_layer + 1, 2 * placement.last_layer};
    case StagePart::kBoth:
      return {2 * placement.first_layer, 2 * placement.last_layer};
    case StagePart::kHead:
      return {2 * config.num_layers, 2 * config.num_layers};
  }
  TANDEM_CHECK(false);
}

// Where a placement begins and ends within an attention half.
std::pair<AttentionCut, AttentionCut> CutsOf(StagePart part) {
  switch (part) {
    case StagePart::kQkv:
      return {AttentionCut::kNone, AttentionCut::kProjected};
    case StagePart::kAttend:
      return {AttentionCut::kProjected, AttentionCut::kAttended};
    case StagePart::kOutput:
      return {AttentionCut::kAttended, AttentionCut::kNone};
    default:
      return {AttentionCut::kNone, AttentionCut::kNone};
  }
}

void Append(const StagePlacement& placement, const ModelConfig& config, StageSpec* spec,
            bool first) {
  const auto [begin, end] = HalvesOf(placement, config);
  const auto [from, to] = CutsOf(placement.part);
  if (first) {
    spec->first_half = begin;
    spec->begin = from;
  }
  spec->last_half = end;
  spec->end = to;
  spec->embed |= placement.part == StagePart::kEmbed;
  spec->head |= placement.part == StagePart::kHead;
}

// Of the edge between two placements: its index in the layout; counts the hop.
int AddHop(const StagePlacement& from, const StagePlacement& to, const StageLayout& layout,
           LocalRoute* route) {
  const PlanEdge ends{from.worker, to.worker};
  const auto found = std::find(layout.edges.begin(), layout.edges.end(), ends);
  TANDEM_CHECK(found != layout.edges.end());
  const auto index = static_cast<std::size_t>(found - layout.edges.begin());
  ++route->hops[index];
  return static_cast<int>(index);
}

// "ffn 0"; "prefill ffn 0" where one of several routes takes it.
std::string NameIn(const StageLayout& layout, std::int32_t stage) {
  std::string uses;
  std::size_t taken = 0;
  for (const LocalRoute& route : layout.routes) {
    if (std::count(route.stages.begin(), route.stages.end(), stage) == 0) continue;
    uses += Cat(NameOf(route.use), " ");
    ++taken;
  }
  return Cat(taken < layout.routes.size() ? uses : "",
             StageSpecName(layout.stages[static_cast<std::size_t>(stage)].spec));
}

LocalRoute LayOutRoute(const PlanRoute& route, const ModelConfig& config, std::string_view worker,
                       StageLayout* layout) {
  LocalRoute local{route.use, {}, std::vector<std::int32_t>(layout->edges.size())};
  const std::vector<StagePlacement>& placements = route.stages;
  for (std::size_t i = 0; i < placements.size(); ++i) {
    if (placements[i].worker != worker) continue;
    LocalStage stage;
    if (i > 0) stage.input_edge = AddHop(placements[i - 1], placements[i], *layout, &local);
    Append(placements[i], config, &stage.spec, /*first=*/true);
    for (; i + 1 < placements.size() && placements[i + 1].worker == worker; ++i)
      Append(placements[i + 1], config, &stage.spec, /*first=*/false);
    if (i + 1 < placements.size())
      stage.output_edge = AddHop(placements[i], placements[i + 1], *layout, &local);
    const auto same = std::find(layout->stages.begin(), layout->stages.end(), stage);
    local.stages.push_back(static_cast<std::int32_t>(same - layout->stages.begin()));
    if (same == layout->stages.end()) layout->stages.push_back(std::move(stage));
  }
  return local;
}

}  // namespace

absl::StatusOr<StageLayout> LayOutStages(const Plan& plan, const ModelConfig& config,
                                         std::string_view worker) {
  std::vector<PlanWorker> workers;
  for (const std::string& name : WorkersOf(plan)) workers.push_back({name});
  TANDEM_RETURN_IF_ERROR(ValidatePlan(plan, config, workers));
  StageLayout layout;
  for (const PlanEdge& edge : EdgesOf(plan))
    if (edge.from == worker || edge.to == worker) layout.edges.push_back(edge);
  for (const PlanRoute& route : plan.routes)
    layout.routes.push_back(LayOutRoute(route, config, worker, &layout));
  if (layout.stages.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("plan '", plan.name,
                                                   "': expected a stage for worker '",
                                                   AbslView(worker), "', found none"));
  }
  for (std::size_t i = 0; i < layout.stages.size(); ++i)
    layout.stages[i].name = NameIn(layout, static_cast<std::int32_t>(i));
  std::set<std::int32_t> attention;
  for (const LocalStage& stage : layout.stages) {
    for (std::int32_t half = stage.spec.first_half; half < stage.spec.last_half; ++half)
      if (half % 2 == 0 && stage.spec.Attends(half)) attention.insert(half / 2);
    layout.has_head |= stage.spec.head;
  }
  layout.attention_layers.assign(attention.begin(), attention.end());
  return layout;
}

bool StageLayout::DecodesAlone(std::int32_t stage) const {
  return std::all_of(routes.begin(), routes.end(), [stage](const LocalRoute& route) {
    return route.use == RouteUse::kDecode ||
           std::count(route.stages.begin(), route.stages.end(), stage) == 0;
  });
}

std::vector<ListEntry> MakeStepList(const StageLayout& layout, std::size_t route,
                                    std::int32_t micro_batches) {
  std::vector<ListEntry> list;
  std::vector<std::int32_t> counts(layout.edges.size());
  const auto count = [&](int edge) {
    return edge == kNoEdge ? 0 : counts[static_cast<std::size_t>(edge)]++;
  };
  bool begun = false;
  bool head = false;
  for (const std::int32_t i : layout.routes[route].stages) {
    const LocalStage& stage = layout.stages[static_cast<std::size_t>(i)];
    const auto add = [&](ListOp op, std::int32_t micro_batch, int edge, std::int32_t number) {
      if (edge == kNoEdge) return;
      list.push_back(
          {.op = op, .micro_batch = micro_batch, .stage = i, .edge = edge, .number = number});
    };
    for (std::int32_t m = 0; m < micro_batches; ++m) {
      if (!begun) list.push_back({.op = ListOp::kBegin, .micro_batch = m});
      const std::int32_t input = count(stage.input_edge);
      const std::int32_t output = count(stage.output_edge);
      add(ListOp::kWaitData, m, stage.input_edge, input);
      add(ListOp::kWaitSpace, m, stage.output_edge, output);
      list.push_back(
          {.op = ListOp::kRun, .micro_batch = m, .stage = i, .input = input, .output = output});
      add(ListOp::kRelease, m, stage.input_edge, input);
      add(ListOp::kPublish, m, stage.output_edge, output);
    }
    begun = true;
    head |= stage.spec.head;
  }
  for (std::int32_t m = 0; head && m < micro_batches; ++m)
    list.push_back({.op = ListOp::kSample, .micro_batch = m});
  return list;
}

}  // namespace tandem
