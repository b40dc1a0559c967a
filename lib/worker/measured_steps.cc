#include "lib/worker/measured_steps.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr absl::Duration kLongestTimeout = absl::Minutes(1);

}  // namespace

absl::Status MeasuredSteps::Run(const StepPlan& plan, StepResult* result) {
  result->begin_unix_ns = absl::GetCurrentTimeNanos();
  result->step_id = plan.step_id;
  result->generation = plan.generation;
  result->sequences.clear();
  result->run = result->wait = absl::ZeroDuration();
  result->status = RunChecked(plan, result);
  if (!result->status.ok()) {
    result->sequences.clear();
    result->run = absl::ZeroDuration();
  }
  result->end_unix_ns = absl::GetCurrentTimeNanos();
  return absl::IsUnavailable(result->status) ? result->status : absl::OkStatus();
}

absl::Status MeasuredSteps::RunChecked(const StepPlan& plan, StepResult* result) {
  if (plan.generation != generation_) {
    return absl::FailedPreconditionError(
        absl::StrCat("step: expected generation ", generation_, ", found ", plan.generation));
  }
  if (plan.sequences.size() > kMostMeasuredShares || plan.route < 0 || plan.route > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: expected at most ", kMostMeasuredShares,
                     " shares and route 0 or 1 while stages are measured, found ",
                     plan.sequences.size(), " and route ", plan.route));
  }
  if (plan.timeout <= absl::ZeroDuration() || plan.timeout > kLongestTimeout) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step: timeout_seconds: expected more than 0 and at most ",
        absl::ToInt64Seconds(kLongestTimeout), ", found ", absl::ToDoubleSeconds(plan.timeout)));
  }
  const Deadline deadline = Deadline::After(plan.timeout);
  for (const SequenceShare& share : plan.sequences) {
    // More than any limit is refused by the timer.
    const CostPoint point{static_cast<std::int32_t>(std::min<std::size_t>(
                              share.tokens.size(), std::numeric_limits<std::int32_t>::max())),
                          share.first_position};
    TANDEM_ASSIGN_OR_RETURN(const double seconds,
                            timer_->RunStep(point, plan.route == 1, deadline));
    result->run += absl::Seconds(seconds);
    SequenceResult& answer = result->sequences.emplace_back();
    answer.slot = share.slot;
    answer.sampled.emplace();
  }
  return absl::OkStatus();
}

}  // namespace tandem
