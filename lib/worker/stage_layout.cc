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

void Append(const StagePlacement& placement, const ModelConfig& config, StageSpec* spec,
            bool first) {
  const auto [begin, end] = HalvesOf(placement, config);
  if (first) spec->first_half = begin;
  spec->last_half = end;
  spec->embed |= placement.part == StagePart::kEmbed;
  spec->head |= placement.part == StagePart::kHead;
}

std::vector<PlanWorker> WorkersOf(const Plan& plan) {
  std::set<std::string> names;
  for (const StagePlacement& stage : plan.stages) names.insert(stage.worker);
  std::vector<PlanWorker> workers;
  for (const std::string& name : names) workers.push_back({name});
  return workers;
}

// The index of the edge, added when it is new; counts the hop.
int AddHop(const std::string& from, const std::string& to, StageLayout* layout) {
  const PlanEdge ends{from, to};
  auto found = std::find_if(layout->edges.begin(), layout->edges.end(),
                            [&](const LocalEdge& e) { return e.ends == ends; });
  if (found == layout->edges.end()) found = layout->edges.insert(layout->edges.end(), {ends, 0});
  ++found->hops;
  return static_cast<int>(found - layout->edges.begin());
}

}  // namespace

absl::StatusOr<StageLayout> LayOutStages(const Plan& plan, const ModelConfig& config,
                                         std::string_view worker) {
  TANDEM_RETURN_IF_ERROR(ValidatePlan(plan, config, WorkersOf(plan)));
  StageLayout layout;
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlacement& placement = plan.stages[i];
    if (placement.worker != worker) continue;
    const bool first = i == 0 || plan.stages[i - 1].worker != worker;
    if (first) {
      LocalStage stage;
      if (i > 0) stage.input_edge = AddHop(plan.stages[i - 1].worker, placement.worker, &layout);
      layout.stages.push_back(std::move(stage));
    }
    LocalStage& stage = layout.stages.back();
    Append(placement, config, &stage.spec, first);
    if (placement.part == StagePart::kAttention || placement.part == StagePart::kBoth) {
      for (std::int32_t layer = placement.first_layer; layer < placement.last_layer; ++layer)
        layout.attention_layers.push_back(layer);
    }
    layout.has_head |= placement.part == StagePart::kHead;
    if (i + 1 < plan.stages.size() && plan.stages[i + 1].worker != worker)
      stage.output_edge = AddHop(placement.worker, plan.stages[i + 1].worker, &layout);
  }
  if (layout.stages.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("plan '", plan.name,
                                                   "': expected a stage for worker '",
                                                   AbslView(worker), "', found none"));
  }
  for (LocalStage& stage : layout.stages) stage.name = StageSpecName(stage.spec);
  return layout;
}

std::vector<ListEntry> MakeStepList(const StageLayout& layout, std::int32_t micro_batches) {
  std::vector<ListEntry> list;
  std::vector<std::int32_t> counts(layout.edges.size());
  const auto count = [&](int edge) {
    return edge == kNoEdge ? 0 : counts[static_cast<std::size_t>(edge)]++;
  };
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(layout.stages.size()); ++i) {
    const LocalStage& stage = layout.stages[static_cast<std::size_t>(i)];
    const auto add = [&](ListOp op, std::int32_t micro_batch, int edge, std::int32_t number) {
      if (edge == kNoEdge) return;
      list.push_back(
          {.op = op, .micro_batch = micro_batch, .stage = i, .edge = edge, .number = number});
    };
    for (std::int32_t m = 0; m < micro_batches; ++m) {
      if (i == 0) list.push_back({.op = ListOp::kBegin, .micro_batch = m});
      const std::int32_t input = count(stage.input_edge);
      const std::int32_t output = count(stage.output_edge);
      add(ListOp::kWaitData, m, stage.input_edge, input);
      add(ListOp::kWaitSpace, m, stage.output_edge, output);
      list.push_back(
          {.op = ListOp::kRun, .micro_batch = m, .stage = i, .input = input, .output = output});
      add(ListOp::kRelease, m, stage.input_edge, input);
      add(ListOp::kPublish, m, stage.output_edge, output);
    }
  }
  for (std::int32_t m = 0; layout.has_head && m < micro_batches; ++m)
    list.push_back({.op = ListOp::kSample, .micro_batch = m});
  return list;
}

}  // namespace tandem
