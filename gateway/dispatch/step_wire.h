#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/schedule/step_plan.h"

namespace tandem::v1 {
class StepPlan;
class StepResult;
}  // namespace tandem::v1

namespace tandem {

// The scheduler's data to and from the messages of proto/tandem/v1/worker.proto.
v1::StepPlan ToProto(const StepPlan& plan, std::uint64_t generation, absl::Duration timeout);
StepPlan FromProto(
    const v1::StepPlan& message);  // for tests' workers; sampling parameters are taken as they are

// INVALID_ARGUMENT names the field when a token is out of range.
absl::StatusOr<StepResult> FromProto(const v1::StepResult& message, std::int32_t vocab_size);
v1::StepResult ToProto(const StepResult& result, std::uint64_t generation);

// The status that a worker's answer carries.
absl::Status StatusOf(const v1::StepResult& message);

}  // namespace tandem
