#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "lib/step/step_plan.h"

namespace tandem::v1 {
class StepPlan;
class StepResult;
}  // namespace tandem::v1

namespace tandem {

// Steps and their results to and from the messages of proto/tandem/v1/worker.proto. Pure; any
// thread. What is written into an object that exists replaces what it held and keeps its memory.

v1::StepPlan ToProto(const StepPlan& plan);
// Carries the fields over as they are: whoever runs the step checks them (the worker's slot table).
void FromProto(const v1::StepPlan& message, StepPlan* plan);
StepPlan FromProto(const v1::StepPlan& message);

void ToProto(const StepResult& result, v1::StepResult* message);
v1::StepResult ToProto(const StepResult& result);
// Fills *result, whose memory is used again. INVALID_ARGUMENT names the field when a token is out
// of range; all of the result but `sequences` is then right.
absl::Status FromProto(const v1::StepResult& message, std::int32_t vocab_size, StepResult* result);

}  // namespace tandem
