#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/deadline.h"
#include "lib/device/device.h"
#include "lib/worker/edge.h"
#include "lib/worker/stage_timer.h"

namespace tandem {

inline constexpr std::int32_t kMostHandoverRounds = 1000;

struct HandoverRounds {
  std::int32_t rows = 0;
  std::int32_t rounds = 0;
};

// Values of a row of the edge from a worker that runs such a stage, and of the edge to it, as a
// plan has them: one that cuts attention out also hands over rows of the residual.
struct HandoverColumns {
  std::int32_t out = 0;
  std::int32_t in = 0;
};
HandoverColumns ColumnsOf(HandoverStage stage, const ModelConfig& config);

// What hand-overs take between two workers that do the same at the same time, each with the other
// ends: rows go round, and each worker runs its stage, of the spec's first layer, on them, from the
// one edge to the other. So a hand-over has in it what it has in a step: a device
// that reads what another one wrote, threads that were asleep meanwhile, and the synchronising of
// memory. The end with the smaller id of `out` begins. Errors of the edges are FAILED_PRECONDITION,
// UNAVAILABLE is the device's.
absl::StatusOr<std::vector<HandoverCost>> TimeHandovers(
    Device& device, const StageTimerSpec& spec, HandoverStage stage,
    std::vector<std::shared_ptr<const Weights>> weights, Edge& out, Edge& in,
    const std::vector<HandoverRounds>& rounds, Deadline deadline,
    const StageTimer::Cancelled& cancelled);

}  // namespace tandem
