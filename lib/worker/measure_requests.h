#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/worker/stage_timer.h"

namespace tandem::v1 {
class MeasureStagesRequest;
}

namespace tandem {

// What is asked for when a worker shall measure, read and checked. INVALID_ARGUMENT names the
// field.

inline constexpr double kLongestMeasureSeconds = 60;
inline constexpr double kLongestRepeatSeconds = 10;

// Checks the other fields of the request, too.
absl::StatusOr<StageTimerSpec> ParseStageTimerSpec(const v1::MeasureStagesRequest& request);
absl::StatusOr<absl::Duration> ParseSeconds(double seconds, double most);

}  // namespace tandem
