#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/worker/edge_timer.h"
#include "lib/worker/stage_timer.h"

namespace tandem::v1 {
class MeasureEdgesRequest;
class MeasureStagesRequest;
}  // namespace tandem::v1

namespace tandem {

// What is asked for when a worker shall measure, read and checked. INVALID_ARGUMENT names the
// field.

inline constexpr double kLongestMeasureSeconds = 60;
inline constexpr double kLongestRepeatSeconds = 10;

// Checks the other fields of the request, too.
absl::StatusOr<StageTimerSpec> ParseStageTimerSpec(const v1::MeasureStagesRequest& request);
absl::StatusOr<absl::Duration> ParseSeconds(double seconds, double most);

// The end of the edge from this worker, and of the one to it.
struct MeasuredEdges {
  HandoverStage stage = HandoverStage::kFeedForward;
  EdgeEndSpec out;
  EdgeEndSpec in;
  std::vector<HandoverRounds> rounds;
};
// `spec`: of the stages that were measured before.
absl::StatusOr<MeasuredEdges> ParseMeasuredEdges(const v1::MeasureEdgesRequest& request,
                                                 const StageTimerSpec& spec);

}  // namespace tandem
