#include "gateway/dispatch/coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {

Coordinator::Coordinator(RecoveryOptions recovery, SchedulerOptions scheduler, SharedPlan plan)
    : recovery_(std::move(recovery), std::move(plan)), scheduler_(std::move(scheduler)) {}

absl::Status Coordinator::Submit(std::uint64_t id, GenerationRequest request) {
  if (!recovery_.accepting()) {
    if (!recovery_.ever_served()) return absl::UnavailableError("the cluster is still starting");
    return absl::UnavailableError(
        absl::StrCat("the cluster is away: ", std::string(recovery_.last_failure().message())));
  }
  return scheduler_.Add(id, std::move(request));
}

void Coordinator::OnStepReply(StepReply* reply, absl::Duration now) {
  const std::uint64_t step_id = reply->result.step_id;
  const Recovery::StepState state =
      recovery_.OnStepReply(reply->round, reply->worker, step_id, reply->status, now);
  if (state == Recovery::StepState::kIgnored || state == Recovery::StepState::kFailed) return;
  RunningStep& step = StepOf(step_id);
  if (reply->worker == recovery_.plan()->head) {
    std::swap(step.result, reply->result);
  } else {
    for (SequenceResult& sequence : reply->result.sequences) {
      if (!sequence.status.ok()) step.failed.push_back(std::move(sequence));
    }
  }
  if (state == Recovery::StepState::kComplete) Complete(step_id, now);
}

void Coordinator::Complete(std::uint64_t step_id, absl::Duration now) {
  RunningStep& step = StepOf(step_id);
  for (SequenceResult& failed : step.failed) {
    std::vector<SequenceResult>& all = step.result.sequences;
    const auto it = std::find_if(all.begin(), all.end(), [&](const SequenceResult& sequence) {
      return sequence.slot == failed.slot;
    });
    if (it == all.end()) {
      all.push_back(std::move(failed));
    } else if (it->status.ok()) {
      *it = std::move(failed);
    }
  }
  const absl::Status updated = scheduler_.Update(&step.result);
  if (!updated.ok()) return recovery_.FailServing(step_id, updated, now);
  steps_done_.push_back({now - std::max(step.start, last_done_), step.decode_tokens,
                         step.prefill_tokens, step.sequences, step.context, step.samples});
  last_done_ = now;
}

void Coordinator::Take(absl::Duration now, Effects* effects) {
  recovery_.ContinueChange(now);
  recovery_.TakeActions(&effects->actions);
  effects->replayed = 0;
  for (const RecoveryAction& action : effects->actions) {
    if (action.kind == RecoveryAction::Kind::kAbandon ||
        action.kind == RecoveryAction::Kind::kLeave) {
      effects->replayed += scheduler_.running();
      scheduler_.Reset({action.step_id, action.status});
    }
    if (action.kind == RecoveryAction::Kind::kGiveUp) scheduler_.FailAll(action.status);
  }
  effects->num_steps = 0;
  effects->round = recovery_.round();
  while (recovery_.may_send() && scheduler_.Schedule(&effects->plans[effects->num_steps])) {
    StepPlan& plan = effects->plans[effects->num_steps++];
    plan.generation = recovery_.generation();
    RunningStep& step = StepOf(plan.step_id);
    step.start = now;
    step.decode_tokens = plan.decode_tokens;
    step.prefill_tokens = plan.prefill_tokens;
    step.sequences = static_cast<std::int32_t>(plan.sequences.size());
    step.context = plan.sequences.empty() ? 0 : plan.sequences.front().first_position;
    step.samples = !plan.sequences.empty() && plan.sequences.front().sample;
    step.failed.clear();
    recovery_.StepStarted(plan.step_id, now);
    if (effects->num_steps == effects->plans.size()) break;
  }
  scheduler_.TakeEvents(&effects->events);
  effects->steps_done.clear();
  std::swap(effects->steps_done, steps_done_);
}

}  // namespace tandem
