#pragma once

#include "absl/status/status.h"
#include "lib/step/step_plan.h"

namespace tandem::v1 {
class WorkerDescription;
}

namespace tandem {

// What a step loop runs steps with: the stages of a plan (step_runner.h), or those that are
// measured (measured_steps.h). Run is called by one thread; the others by any.
class StepWork {
 public:
  virtual ~StepWork() = default;

  // Always fills *result. The returned status is not OK when the device is lost (UNAVAILABLE):
  // nothing may be served from it again.
  virtual absl::Status Run(const StepPlan& plan, StepResult* result) = 0;

  // Ends the waits of the step that runs, and what it computes; it answers CANCELLED. Holds until
  // ClearInterrupt.
  virtual void Interrupt() = 0;
  virtual void ClearInterrupt() = 0;

  // Stages, edges, steps_done, tokens_done.
  virtual void Describe(v1::WorkerDescription* description) const = 0;
};

}  // namespace tandem
