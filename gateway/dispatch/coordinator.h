#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/dispatch/recovery.h"
#include "gateway/schedule/scheduler.h"

namespace tandem {

// A worker's answer to a step.
struct StepReply {
  std::uint64_t round = 0;
  std::size_t worker = 0;
  absl::Status status;
  StepResult result;  // step_id always; sequences from the worker with the head
};

// The whole of the gateway's decisions: the scheduler, and the recovery that feeds it steps or
// resets it. Messages and time in, effects out; no clock, threads or RPC, so that the simulation
// drives the very code that serves. Not thread-safe.
class Coordinator {
 public:
  // `head`: index of the worker that samples.
  Coordinator(RecoveryOptions recovery, SchedulerOptions scheduler, std::size_t head);

  void Start(absl::Duration now) { recovery_.Start(now); }

  // As Engine::Submit and Engine::Cancel have it.
  absl::Status Submit(std::uint64_t id, GenerationRequest request);
  bool Cancel(std::uint64_t id) { return scheduler_.Cancel(id); }

  void OnLoaded(std::uint64_t round, const absl::Status& status, absl::Duration now) {
    recovery_.OnLoaded(round, status, now);
  }
  void OnReply(std::uint64_t round, ClusterPhase reply, std::size_t worker,
               const absl::Status& status, absl::Duration now) {
    recovery_.OnReply(round, reply, worker, status, now);
  }
  void RaiseGeneration(std::uint64_t generation) { recovery_.RaiseGeneration(generation); }
  void OnStreamBroken(std::uint64_t round, std::size_t worker, const absl::Status& status,
                      absl::Duration now) {
    recovery_.OnStreamBroken(round, worker, status, now);
  }
  void OnStepReply(StepReply reply, absl::Duration now);
  void OnTime(absl::Duration now) { recovery_.OnTime(now); }
  std::optional<absl::Duration> next_deadline() const { return recovery_.next_deadline(); }

  // What to do now, to be done in this order: actions, the step to send to every worker, events to
  // deliver.
  struct StepDone {
    absl::Duration seconds;
    std::int32_t decode_tokens = 0;
    std::int32_t prefill_tokens = 0;
  };
  struct Effects {
    std::vector<RecoveryAction> actions;
    std::optional<StepPlan> step;
    std::uint64_t round = 0;  // of the step
    std::uint64_t generation = 0;
    std::vector<RequestEvent> events;
    std::vector<StepDone> steps_done;
  };
  Effects Take(absl::Duration now);

  const Recovery& recovery() const { return recovery_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct RunningStep {
    absl::Duration start;
    std::int32_t decode_tokens = 0;
    std::int32_t prefill_tokens = 0;
    StepResult result;
  };

  Recovery recovery_;
  Scheduler scheduler_;
  std::size_t head_;
  RunningStep step_;
  std::vector<StepDone> steps_done_;
};

}  // namespace tandem
