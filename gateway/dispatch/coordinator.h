#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
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
  // CLOCK_MONOTONIC, for the trace.
  std::int64_t arrived_ns = 0;
  // Not OK: the step failed whole, or the answer cannot be read.
  absl::Status status;
  // step_id always; sequences from the worker with the head, and failed ones from the others
  StepResult result;
};

// The whole of the gateway's decisions: the scheduler, and the recovery that feeds it steps or
// resets it. Messages and time in, effects out; no clock, threads or RPC, so that the simulation
// drives the very code that serves. In steady state it allocates no memory. Not thread-safe.
class Coordinator {
 public:
  Coordinator(RecoveryOptions recovery, SchedulerOptions scheduler, SharedPlan plan);

  void Start(absl::Duration now) { recovery_.Start(now); }
  // The same, with another plan than that of the constructor.
  void StartUnder(SharedPlan plan, absl::Duration now) {
    recovery_.StartUnder(std::move(plan), now);
  }
  // While no request runs: between an end of a generation and the next one.
  void Resize(const SchedulerSizes& sizes) { scheduler_.Resize(sizes); }

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
  // Takes over what the reply holds and leaves memory that can be used again.
  void OnStepReply(StepReply* reply, absl::Duration now);
  // As Recovery has it; running requests start over under the new plan, with the same text.
  absl::Status ChangePlan(SharedPlan plan) { return recovery_.ChangePlan(std::move(plan)); }
  void OnTime(absl::Duration now) { recovery_.OnTime(now); }
  std::optional<absl::Duration> next_deadline() const { return recovery_.next_deadline(); }

  // What to do now, to be done in this order: actions, the steps to send to every worker, events to
  // deliver. The same object is given to every Take: its memory is used again.
  struct StepDone {
    // From its sending, or from the end of the step before it, to its last answer.
    absl::Duration seconds;
    std::int32_t decode_tokens = 0;
    std::int32_t prefill_tokens = 0;
    std::int32_t sequences = 0;
    // Of the first share: tokens before it, and whether it samples.
    std::int32_t context = 0;
    bool samples = false;
  };
  struct Effects {
    std::vector<RecoveryAction> actions;
    // The first num_steps ones count.
    std::array<StepPlan, kMostStepsInFlight> plans;
    std::size_t num_steps = 0;
    std::span<StepPlan> steps() { return {plans.data(), num_steps}; }
    // Of the steps.
    std::uint64_t round = 0;
    std::vector<RequestEvent> events;
    std::vector<StepDone> steps_done;
    // Requests that start over, because the workers lost their state.
    std::int32_t replayed = 0;
  };
  void Take(absl::Duration now, Effects* effects);

  const Recovery& recovery() const { return recovery_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct RunningStep {
    absl::Duration start;
    std::int32_t decode_tokens = 0;
    std::int32_t prefill_tokens = 0;
    std::int32_t sequences = 0;
    std::int32_t context = 0;
    bool samples = false;
    // Of the worker with the head.
    StepResult result;
    // What failed on the others.
    std::vector<SequenceResult> failed;
  };
  RunningStep& StepOf(std::uint64_t step_id) { return steps_[step_id % steps_.size()]; }
  // Everything about the oldest step is here.
  void Complete(std::uint64_t step_id, absl::Duration now);

  Recovery recovery_;
  Scheduler scheduler_;
  std::array<RunningStep, kMostStepsInFlight> steps_;
  absl::Duration last_done_;
  std::vector<StepDone> steps_done_;
};

}  // namespace tandem
