#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "lib/worker/stage_timer.h"
#include "lib/worker/step_work.h"

namespace tandem {

// Steps of the stages that a worker has measured, for a gateway that wants to know what a step
// takes beside them: it sends them as it sends those of a plan, and they go the same way through
// queue and threads. A step of no share does nothing; of its shares it computes each by itself, one
// after another, as many tokens behind its first position, so that one with many shares shows what
// the stages take almost without messages. On route 0 they go through all measured layers, on route
// 1 through one of each kind. Each share is answered with a token.
class MeasuredSteps final : public StepWork {
 public:
  MeasuredSteps(std::shared_ptr<StageTimer> timer, std::uint64_t generation)
      : timer_(std::move(timer)), generation_(generation) {}

  // INVALID_ARGUMENT for any other step, FAILED_PRECONDITION for one of another generation.
  absl::Status Run(const StepPlan& plan, StepResult* result) override;
  void Interrupt() override { timer_->Interrupt(); }
  void ClearInterrupt() override { timer_->ClearInterrupt(); }
  // There is no plan.
  void Describe(v1::WorkerDescription*) const override {}

 private:
  absl::Status RunChecked(const StepPlan& plan, StepResult* result);

  const std::shared_ptr<StageTimer> timer_;
  const std::uint64_t generation_;
};

}  // namespace tandem
