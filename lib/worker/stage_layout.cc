#include "lib/worker/stage_layout.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

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
  for (const std::string& name : names) workers.push_back({name, ""});
  return workers;
}

// The index of the edge, added when it is new; counts the hop.
int EdgeIndex(const std::string& from, const std::string& to, StageLayout* layout,
              std::int32_t* hop) {
  const PlanEdge ends{from, to};
  auto found = std::find_if(layout->edges.begin(), layout->edges.end(),
                            [&](const LocalEdge& e) { return e.ends == ends; });
  if (found == layout->edges.end()) found = layout->edges.insert(layout->edges.end(), {ends, 0});
  *hop = found->hops++;
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
      if (i > 0)
        stage.input_edge =
            EdgeIndex(plan.stages[i - 1].worker, placement.worker, &layout, &stage.input_hop);
      layout.stages.push_back(std::move(stage));
    }
    LocalStage& stage = layout.stages.back();
    Append(placement, config, &stage.spec, first);
    if (placement.part == StagePart::kAttention || placement.part == StagePart::kBoth) {
      for (std::int32_t layer = placement.first_layer; layer < placement.last_layer; ++layer)
        layout.attention_layers.push_back(layer);
    }
    layout.has_head |= placement.part == StagePart::kHead;
    if (i + 1 < plan.stages.size() && plan.stages[i + 1].worker != worker) {
      stage.output_edge =
          EdgeIndex(placement.worker, plan.stages[i + 1].worker, &layout, &stage.output_hop);
    }
  }
  if (layout.stages.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("plan '", plan.name,
                                                   "': expected a stage for worker '",
                                                   AbslView(worker), "', found none"));
  }
  for (LocalStage& stage : layout.stages) stage.name = StageSpecName(stage.spec);
  return layout;
}

}  // namespace tandem
