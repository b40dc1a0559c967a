#include "gateway/dispatch/recovery.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// Whether the same call may well succeed later, without anybody mending anything.
bool IsPassing(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsAborted(status);
}

// A worker without a part is ahead of every step.
constexpr std::uint64_t kNoPart = ~std::uint64_t{0};

}  // namespace

std::string_view ClusterPhaseName(ClusterPhase phase) {
  switch (phase) {
    case ClusterPhase::kWaiting:
      return "waiting";
    case ClusterPhase::kLoading:
      return "loading";
    case ClusterPhase::kDescribing:
      return "describing";
    case ClusterPhase::kPreparing:
      return "preparing";
    case ClusterPhase::kConnecting:
      return "connecting";
    case ClusterPhase::kServing:
      return "serving";
  }
  return "unknown";
}

Recovery::Recovery(RecoveryOptions options, SharedPlan plan)
    : options_(std::move(options)), plan_(std::move(plan)), backoff_(options_.min_backoff) {
  TANDEM_CHECK(!options_.workers.empty() && plan_->members.size() == options_.workers.size());
  answered_.resize(options_.workers.size());
}

void Recovery::Start(absl::Duration now) { StartRound(now); }

void Recovery::StartUnder(SharedPlan plan, absl::Duration now) {
  TANDEM_CHECK(!started() && plan->members.size() == answered_.size());
  plan_ = std::move(plan);
  StartRound(now);
}

void Recovery::StartRound(absl::Duration now) {
  ++round_;
  Enter(ClusterPhase::kLoading, RecoveryAction::Kind::kLoad, options_.load_timeout, now);
}

RecoveryAction& Recovery::Push(RecoveryAction::Kind kind) {
  RecoveryAction& action = actions_.emplace_back();
  action.kind = kind;
  action.round = round_;
  action.generation = generation_;
  action.plan = plan_;
  return action;
}

void Recovery::Enter(ClusterPhase phase, RecoveryAction::Kind kind, absl::Duration timeout,
                     absl::Duration now) {
  phase_ = phase;
  for (std::size_t i = 0; i < answered_.size(); ++i)
    answered_[i] = plan_->members[i] != 0 ? 0 : kNoPart;
  deadline_ = now + timeout + options_.grace;
  if (phase == ClusterPhase::kPreparing) ++generation_;
  Push(kind).timeout = timeout;
  if (phase != ClusterPhase::kServing) return;
  deadline_.reset();
  oldest_step_ = 1;
  newest_step_ = 0;
  serving_since_ = now;
  give_up_at_.reset();
  ever_served_ = true;
  start_refusals_ = 0;
  gave_up_ = false;
  if (former_ == nullptr) return;
  former_.reset();
  Push(RecoveryAction::Kind::kChangeEnded);
}

absl::Status Recovery::ChangePlan(SharedPlan plan) {
  if (changing()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a change to plan '", (wanted_ != nullptr ? wanted_ : plan_)->name, "' is in progress"));
  }
  TANDEM_CHECK(plan->members.size() == answered_.size());
  wanted_ = std::move(plan);
  return absl::OkStatus();
}

void Recovery::ContinueChange(absl::Duration now) {
  if (wanted_ == nullptr || steps_running() > 0) return;
  Push(RecoveryAction::Kind::kLeave);
  former_ = std::exchange(plan_, std::exchange(wanted_, nullptr));
  // Weights may have to be read first: the phases' own timeouts count.
  give_up_at_.reset();
  outage_began_.reset();
  oldest_step_ = 1;
  newest_step_ = 0;
  backoff_ = options_.min_backoff;
  StartRound(now);
}

void Recovery::TakePlanBack(const absl::Status& status, absl::Duration now) {
  Push(RecoveryAction::Kind::kChangeEnded).status = status;
  plan_ = std::exchange(former_, nullptr);
  start_refusals_ = 0;
  if (!ever_served_ || gave_up_) return;
  outage_began_ = now;
  give_up_at_ = now + options_.recovery_timeout;
}

absl::Status Recovery::Named(const absl::Status& status, std::size_t worker,
                             std::string_view what) const {
  return Annotate(status, options_.workers[worker] + ": " + std::string(what));
}

void Recovery::Fail(const absl::Status& status, std::uint64_t step_id, absl::Duration now) {
  last_failure_ = status;
  RecoveryAction& abandon = Push(RecoveryAction::Kind::kAbandon);
  abandon.status = status;
  abandon.step_id = step_id;
  start_refusals_ = ever_served_ || IsPassing(status) ? 0 : start_refusals_ + 1;
  if (serving()) {
    ++recoveries_;
    if (!outage_began_.has_value() || now - serving_since_ >= options_.recovery_timeout)
      outage_began_ = now;
    give_up_at_ = *outage_began_ + options_.recovery_timeout;
  }
  phase_ = ClusterPhase::kWaiting;
  oldest_step_ = 1;
  newest_step_ = 0;
  deadline_ = now + backoff_;
  backoff_ = std::min(backoff_ * 2, options_.max_backoff);
  if (former_ != nullptr) TakePlanBack(status, now);
}

void Recovery::OnLoaded(std::uint64_t round, const absl::Status& status, absl::Duration now) {
  if (round != round_ || phase_ != ClusterPhase::kLoading) return;
  if (!status.ok()) return Fail(Annotate(status, "loader"), 0, now);
  Enter(ClusterPhase::kDescribing, RecoveryAction::Kind::kDescribe, options_.describe_timeout, now);
}

void Recovery::OnReply(std::uint64_t round, ClusterPhase reply, std::size_t worker,
                       const absl::Status& status, absl::Duration now) {
  if (round != round_ || reply != phase_ || serving()) return;
  TANDEM_CHECK(worker < answered_.size());
  if (!status.ok()) return Fail(Named(status, worker, ClusterPhaseName(phase_)), 0, now);
  answered_[worker] = 1;
  if (std::find(answered_.begin(), answered_.end(), 0u) != answered_.end()) return;
  switch (phase_) {
    case ClusterPhase::kDescribing:
      return Enter(ClusterPhase::kPreparing, RecoveryAction::Kind::kPrepare,
                   options_.prepare_timeout, now);
    case ClusterPhase::kPreparing:
      return Enter(ClusterPhase::kConnecting, RecoveryAction::Kind::kConnect,
                   options_.connect_timeout, now);
    case ClusterPhase::kConnecting:
      return Enter(ClusterPhase::kServing, RecoveryAction::Kind::kServe, absl::ZeroDuration(), now);
    default:
      TANDEM_CHECK(false);
  }
}

void Recovery::RaiseGeneration(std::uint64_t generation) {
  if (phase_ == ClusterPhase::kDescribing) generation_ = std::max(generation_, generation);
}

void Recovery::OnStreamBroken(std::uint64_t round, std::size_t worker, const absl::Status& status,
                              absl::Duration now) {
  if (round != round_ || !serving()) return;
  Fail(Named(status, worker, "step stream ended"), 0, now);
}

void Recovery::StepStarted(std::uint64_t step_id, absl::Duration now) {
  TANDEM_CHECK(serving() && step_id == newest_step_ + 1);
  newest_step_ = step_id;
  outage_began_.reset();
  if (oldest_step_ == newest_step_) deadline_ = now + options_.step_timeout + options_.grace;
}

Recovery::StepState Recovery::OnStepReply(std::uint64_t round, std::size_t worker,
                                          std::uint64_t step_id, const absl::Status& status,
                                          absl::Duration now) {
  if (round != round_ || !serving()) return StepState::kIgnored;
  TANDEM_CHECK(worker < answered_.size());
  const std::uint64_t expected = answered_[worker] + 1;
  if (step_id != expected || step_id > newest_step_) {
    const std::string found =
        expected > newest_step_ ? "no step runs for it" : absl::StrCat("expected step ", expected);
    Fail(Named(absl::InternalError(absl::StrCat("answered step ", step_id, ": ", found)), worker,
               "step"),
         0, now);
    return StepState::kFailed;
  }
  if (!status.ok()) {
    Fail(Named(status, worker, absl::StrCat("step ", step_id)), step_id, now);
    return StepState::kFailed;
  }
  answered_[worker] = step_id;
  if (*std::min_element(answered_.begin(), answered_.end()) < oldest_step_)
    return StepState::kPending;
  ++oldest_step_;
  deadline_.reset();
  if (steps_running() > 0) deadline_ = now + options_.step_timeout + options_.grace;
  backoff_ = options_.min_backoff;
  return StepState::kComplete;
}

void Recovery::FailServing(std::uint64_t step_id, const absl::Status& status, absl::Duration now) {
  if (serving()) Fail(status, step_id, now);
}

void Recovery::OnTime(absl::Duration now) {
  if (give_up_at_.has_value() && now >= *give_up_at_) {
    give_up_at_.reset();
    outage_began_.reset();
    gave_up_ = true;
    const std::string text = absl::StrCat("the cluster did not come back within ",
                                          absl::FormatDuration(options_.recovery_timeout), ": ",
                                          std::string(last_failure_.message()));
    Push(RecoveryAction::Kind::kGiveUp).status = absl::UnavailableError(text);
  }
  if (!deadline_.has_value() || now < *deadline_) return;
  if (phase_ == ClusterPhase::kWaiting) return StartRound(now);
  const std::string what =
      serving() ? absl::StrCat("step ", oldest_step_) : std::string(ClusterPhaseName(phase_));
  Fail(absl::DeadlineExceededError(absl::StrCat(what, ": no answer in time from ", Pending())),
       serving() ? oldest_step_ : 0, now);
}

std::optional<absl::Duration> Recovery::next_deadline() const {
  if (!deadline_.has_value()) return give_up_at_;
  if (!give_up_at_.has_value()) return deadline_;
  return std::min(*deadline_, *give_up_at_);
}

void Recovery::TakeActions(std::vector<RecoveryAction>* actions) {
  actions->clear();
  std::swap(*actions, actions_);
}

std::string Recovery::Pending() const {
  if (phase_ == ClusterPhase::kLoading) return "loader";
  std::string names;
  const std::uint64_t wanted = serving() ? oldest_step_ : 1;
  for (std::size_t i = 0; i < answered_.size(); ++i) {
    if (answered_[i] < wanted)
      absl::StrAppend(&names, names.empty() ? "" : ", ", options_.workers[i]);
  }
  return names;
}

}  // namespace tandem
