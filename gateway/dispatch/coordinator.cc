#include "gateway/dispatch/coordinator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {

Coordinator::Coordinator(RecoveryOptions recovery, SchedulerOptions scheduler, std::size_t head)
    : recovery_(std::move(recovery)), scheduler_(std::move(scheduler)), head_(head) {}

absl::Status Coordinator::Submit(std::uint64_t id, GenerationRequest request) {
  if (!recovery_.accepting()) {
    if (!recovery_.ever_served()) return absl::UnavailableError("the cluster is still starting");
    return absl::UnavailableError(
        absl::StrCat("the cluster is away: ", std::string(recovery_.last_failure().message())));
  }
  return scheduler_.Add(id, std::move(request));
}

void Coordinator::OnStepReply(StepReply reply, absl::Duration now) {
  const bool current = reply.round == recovery_.round() && recovery_.serving();
  const Recovery::StepState state =
      recovery_.OnStepReply(reply.round, reply.worker, reply.result.step_id, reply.status, now);
  if (!current) return;
  if (state == Recovery::StepState::kFailed) {
    // A worker that calls a step wrong will call it wrong again: its requests end, the others are
    // replayed.
    if (absl::IsInvalidArgument(reply.status)) {
      scheduler_.FailStep(
          Annotate(absl::InternalError(reply.status.message()), "a worker refused the step"));
    }
    return;
  }
  if (reply.worker == head_) step_.result = std::move(reply.result);
  if (state != Recovery::StepState::kComplete) return;
  const absl::Status updated = scheduler_.Update(std::move(step_.result));
  if (!updated.ok()) return recovery_.FailServing(updated, now);
  steps_done_.push_back({now - step_.start, step_.decode_tokens, step_.prefill_tokens});
}

Coordinator::Effects Coordinator::Take(absl::Duration now) {
  Effects effects;
  effects.actions = recovery_.TakeActions();
  for (const RecoveryAction& action : effects.actions) {
    if (action.kind == RecoveryAction::Kind::kAbandon) scheduler_.Reset();
    if (action.kind == RecoveryAction::Kind::kGiveUp) scheduler_.FailAll(action.status);
  }
  if (recovery_.serving() && !recovery_.step_running()) {
    effects.step = scheduler_.Schedule();
    if (effects.step.has_value()) {
      effects.round = recovery_.round();
      effects.generation = recovery_.generation();
      step_ = {now, effects.step->decode_tokens, effects.step->prefill_tokens, {}};
      recovery_.StepStarted(effects.step->step_id, now);
    }
  }
  effects.events = scheduler_.TakeEvents();
  effects.steps_done = std::exchange(steps_done_, {});
  return effects;
}

}  // namespace tandem
