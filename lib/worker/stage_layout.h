#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/stage.h"
#include "lib/model/config.h"
#include "lib/model/plan.h"

namespace tandem {

// One worker's part of a plan. Neighbouring stages of a route on the worker become one compiled
// stage, so that the residual leaves or enters the worker exactly between two of these. Pure data;
// any thread.

inline constexpr int kNoEdge = -1;

struct LocalStage {
  StageSpec spec;
  // For people: StageSpecName, behind the use of its route where not all routes take it.
  std::string name;
  // Index into StageLayout::edges; none where the stage embeds.
  int input_edge = kNoEdge;
  // None where it ends with the head.
  int output_edge = kNoEdge;
  bool operator==(const LocalStage&) const = default;
};

// A route of the plan as this worker sees it.
struct LocalRoute {
  RouteUse use = RouteUse::kAll;
  // Indices into StageLayout::stages, in the order in which the residual passes them. None where
  // the route passes this worker by.
  std::vector<std::int32_t> stages;
  // Of each edge of StageLayout::edges: hand-overs of one micro-batch.
  std::vector<std::int32_t> hops;
};

struct StageLayout {
  std::vector<LocalRoute> routes;              // as the plan's
  std::vector<LocalStage> stages;              // each once, whatever routes take it
  std::vector<PlanEdge> edges;                 // those with this worker at one end
  std::vector<std::int32_t> attention_layers;  // whose keys and values this worker keeps, ascending
  bool has_head = false;                       // this worker embeds and samples

  // Whether no route takes the stage but that of decode.
  bool DecodesAlone(std::int32_t stage) const;
};

// What a worker does for one step, entry by entry. Stages follow each other in the order of the
// route, and each takes all micro-batches in turn: while this worker computes a stage for one
// micro-batch, its neighbour computes the next stage for the one before.
//
// The hand-overs of an edge are numbered as they come in the list, from 0; both ends count the
// same. A step's numbers start where those of the step before ended (hops of its route x
// micro-batches each).
enum class ListOp : std::uint8_t {
  // Puts the micro-batch into its context of the program.
  kBegin,
  // Until hand-over `number` of `edge` can be read.
  kWaitData,
  // Until the slot of hand-over `number` can be written.
  kWaitSpace,
  // Stage `stage` reads hand-over `input` and writes hand-over `output`.
  kRun,
  // Hand-over `number` was read.
  kRelease,
  // Hand-over `number` is written.
  kPublish,
  // Uses the logits.
  kSample,
};
struct ListEntry {
  ListOp op = ListOp::kBegin;
  std::int32_t micro_batch = 0;
  std::int32_t stage = 0;
  int edge = kNoEdge;
  std::int32_t number = 0;
  std::int32_t input = 0;
  std::int32_t output = 0;
  bool operator==(const ListEntry&) const = default;
};
std::vector<ListEntry> MakeStepList(const StageLayout& layout, std::size_t route,
                                    std::int32_t micro_batches);

// INVALID_ARGUMENT when the plan does not fit the model or names no stage of `worker`.
absl::StatusOr<StageLayout> LayOutStages(const Plan& plan, const ModelConfig& config,
                                         std::string_view worker);

}  // namespace tandem
