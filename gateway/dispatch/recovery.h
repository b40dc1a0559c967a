#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/dispatch/cluster_plan.h"

namespace tandem {

// How the cluster comes up, and comes back: a state machine without clock, threads or RPC. Time
// goes in as a Duration since some fixed moment; actions come out.
//
//   kWaiting --backoff--> kLoading --> kDescribing --> kPreparing --> kConnecting --> kServing
//      ^                      |             |               |              |              |
//      +----------------------+-------------+---------------+--------------+--------------+   any
//      failure, any timeout
//
// Each pass is a round with a number of its own. Replies name their round; those of an abandoned
// one are ignored, so a late answer can do no harm. A failure abandons the whole round: what is
// still there answers the next one quickly.
//
// Every round has a plan, and only the workers of it take part. A planned change of it loses
// nothing: the steps that run are completed first, and if the first round under the new plan fails
// before it serves, the next one has the old plan again.
enum class ClusterPhase : std::uint8_t {
  kWaiting,
  kLoading,
  kDescribing,
  kPreparing,
  kConnecting,
  kServing
};
std::string_view ClusterPhaseName(ClusterPhase phase);

struct RecoveryOptions {
  // Names; elsewhere a worker is its index here. At least one.
  std::vector<std::string> workers;
  // then running requests end, and new ones are refused until it is back. A round that serves but
  // is lost before any step was sent does not count as being back
  absl::Duration recovery_timeout = absl::Seconds(60);
  absl::Duration load_timeout = absl::Hours(2);
  absl::Duration describe_timeout = absl::Seconds(5);
  // Maps and uploads all weights.
  absl::Duration prepare_timeout = absl::Minutes(10);
  // Compiles the stages.
  absl::Duration connect_timeout = absl::Seconds(60);
  // Workers give up on each other after this.
  absl::Duration step_timeout = absl::Minutes(5);
  // Beyond a timeout, for the answer to get here.
  absl::Duration grace = absl::Seconds(2);
  absl::Duration min_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(2);
};

struct RecoveryAction {
  enum class Kind : std::uint8_t {
    // Wait until the loader is ready and fetch what Prepare needs; answer with OnLoaded.
    kLoad,
    // These three: ask every worker at once; answer with OnReply for each.
    kDescribe,
    kPrepare,
    kConnect,
    // Open the step streams; steps may start.
    kServe,
    // cancel all of the round; workers get an abort first where streams are open. Running requests
    // will be replayed
    kAbandon,
    // The round ends because the plan changes: as kAbandon, but nothing is wrong, and no step runs.
    kLeave,
    // A planned change is over: the cluster serves under the plan, or with an error in `status` it
    // goes back to the one before.
    kChangeEnded,
    // The recovery timeout has passed: end all requests with `status`.
    kGiveUp,
  };
  Kind kind = Kind::kLoad;
  std::uint64_t round = 0;
  // kPrepare, kConnect, kServe, kAbandon, kLeave
  std::uint64_t generation = 0;
  // Of the round; kChangeEnded: the new one.
  SharedPlan plan;
  // of the calls
  absl::Duration timeout;
  // kAbandon, kGiveUp: why
  absl::Status status;
  // kAbandon: the step that failed; 0: none in particular
  std::uint64_t step_id = 0;
};

class Recovery {
 public:
  // The plan's members are those of options.workers.
  Recovery(RecoveryOptions options, SharedPlan plan);

  // Once.
  void Start(absl::Duration now);
  void StartUnder(SharedPlan plan, absl::Duration now);

  // Replies. `reply` is the phase in which the call was made.
  void OnLoaded(std::uint64_t round, const absl::Status& status, absl::Duration now);
  void OnReply(std::uint64_t round, ClusterPhase reply, std::size_t worker,
               const absl::Status& status, absl::Duration now);
  // A worker has served this generation before: the next one must be higher.
  void RaiseGeneration(std::uint64_t generation);
  void OnStreamBroken(std::uint64_t round, std::size_t worker, const absl::Status& status,
                      absl::Duration now);

  // Steps, only while serving: their ids count from 1 in each round, and each worker answers them
  // in order. Several may run; a step's time begins when it is sent or when the one before it is
  // complete, whichever is later.
  void StepStarted(std::uint64_t step_id, absl::Duration now);
  enum class StepState : std::uint8_t { kIgnored, kPending, kComplete, kFailed };
  // kComplete: the oldest step that runs has its last answer.
  StepState OnStepReply(std::uint64_t round, std::size_t worker, std::uint64_t step_id,
                        const absl::Status& status, absl::Duration now);
  // What came back for the step makes no sense: start over.
  void FailServing(std::uint64_t step_id, const absl::Status& status, absl::Duration now);

  // A planned change, whatever the phase. From now on no step may be sent; the change begins at
  // the ContinueChange that finds none running. FAILED_PRECONDITION while another one is in
  // progress.
  absl::Status ChangePlan(SharedPlan plan);
  void ContinueChange(absl::Duration now);
  bool changing() const { return wanted_ != nullptr || former_ != nullptr; }

  void OnTime(absl::Duration now);
  // When OnTime must be called at the latest, if nothing comes before.
  std::optional<absl::Duration> next_deadline() const;
  // What to do, in order. *actions gives its memory for the next ones.
  void TakeActions(std::vector<RecoveryAction>* actions);

  ClusterPhase phase() const { return phase_; }
  bool serving() const { return phase_ == ClusterPhase::kServing; }
  bool may_send() const { return serving() && wanted_ == nullptr; }
  // Of the round.
  const SharedPlan& plan() const { return plan_; }
  std::uint64_t steps_running() const { return newest_step_ + 1 - oldest_step_; }
  // New requests are taken: it serves, or it did and may be back in time.
  bool accepting() const { return serving() || (ever_served_ && !gave_up_); }
  bool gave_up() const { return gave_up_; }
  bool ever_served() const { return ever_served_; }
  // The start was refused several times in a row for a reason that waiting does not mend (a device
  // that cannot do it, a broken model).
  bool start_refused() const { return start_refusals_ >= kStartRefusals; }
  int start_refusals() const { return start_refusals_; }
  std::uint64_t round() const { return round_; }
  std::uint64_t generation() const { return generation_; }
  // Times that serving was lost.
  std::uint64_t recoveries() const { return recoveries_; }
  // Of the last abandoned round.
  const absl::Status& last_failure() const { return last_failure_; }
  bool started() const { return round_ > 0; }
  // Names of workers that have not answered in this phase, or the oldest step, for people: "gpu0,
  // npu0".
  std::string Pending() const;

 private:
  void StartRound(absl::Duration now);
  void Enter(ClusterPhase phase, RecoveryAction::Kind kind, absl::Duration timeout,
             absl::Duration now);
  RecoveryAction& Push(RecoveryAction::Kind kind);
  void TakePlanBack(const absl::Status& status, absl::Duration now);
  void Fail(const absl::Status& status, std::uint64_t step_id, absl::Duration now);
  absl::Status Named(const absl::Status& status, std::size_t worker, std::string_view what) const;

  RecoveryOptions options_;
  SharedPlan plan_;
  // Of a planned change: what comes once no step runs any more, and from then on until it serves
  // what was there before.
  SharedPlan wanted_;
  SharedPlan former_;
  ClusterPhase phase_ = ClusterPhase::kWaiting;
  std::uint64_t round_ = 0;
  std::uint64_t generation_ = 0;
  // By worker: 1 when it has answered in this phase; while serving, its last answered step. One
  // without a part has always answered.
  std::vector<std::uint64_t> answered_;
  // Steps that run: oldest_step_ to newest_step_.
  std::uint64_t oldest_step_ = 1;
  std::uint64_t newest_step_ = 0;
  // Of the phase, the backoff or the oldest step.
  std::optional<absl::Duration> deadline_;
  // While not serving after having served.
  std::optional<absl::Duration> give_up_at_;
  // When the cluster went away; a round that serves ends the outage once a step has been sent, or
  // when it lasts.
  std::optional<absl::Duration> outage_began_;
  absl::Duration serving_since_;
  absl::Duration backoff_;
  bool ever_served_ = false;
  static constexpr int kStartRefusals = 3;
  int start_refusals_ = 0;
  bool gave_up_ = false;
  std::uint64_t recoveries_ = 0;
  absl::Status last_failure_;
  std::vector<RecoveryAction> actions_;
};

}  // namespace tandem
