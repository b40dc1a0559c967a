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

// One worker's part of a plan, in the order in which the residual passes it. Neighbouring plan
// stages on the worker become one compiled stage, so that the residual leaves or enters the worker
// exactly between two of these. Pure data; any thread.

inline constexpr int kNoEdge = -1;

struct LocalStage {
  StageSpec spec;
  std::string name;
  int input_edge = kNoEdge;    // index into StageLayout::edges; none where the stage embeds
  std::int32_t input_hop = 0;  // which of the edge's hand-overs of a step
  int output_edge = kNoEdge;   // none where it ends with the head
  std::int32_t output_hop = 0;
};

struct LocalEdge {
  PlanEdge ends;
  // hand-overs of one step: hop h of step n (n-th of the generation, from 0) has the sequence n *
  // hops + h
  std::int32_t hops = 0;
};

struct StageLayout {
  std::vector<LocalStage> stages;
  std::vector<LocalEdge> edges;                // those with this worker at one end
  std::vector<std::int32_t> attention_layers;  // whose keys and values this worker keeps, ascending
  bool has_head = false;                       // this worker embeds and samples
};

// INVALID_ARGUMENT when the plan does not fit the model or names no stage of `worker`.
absl::StatusOr<StageLayout> LayOutStages(const Plan& plan, const ModelConfig& config,
                                         std::string_view worker);

}  // namespace tandem
