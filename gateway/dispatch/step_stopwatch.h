#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/dispatch/links.h"
#include "gateway/dispatch/step_model.h"

namespace tandem {

// Sends steps to workers that have measured their stages (lib/worker/measured_steps.h), as the
// engine sends those of a plan, and takes the time of each: from its sending, or from the end of
// the one before it, to its last answer. One thread.
class StepStopwatch {
 public:
  // `links`: the first one computes; the others are sent steps of nothing. They outlive it.
  StepStopwatch(const std::vector<WorkerLink*>& links, std::uint64_t generation,
                std::int32_t vocab_size);
  ~StepStopwatch();

  struct Wanted {
    CostPoint point;
    // Through one layer of each kind instead of all that were measured.
    bool few = false;
    // How often the worker computes that in one step.
    std::size_t shares = 1;
    // Steps that are sent before the first one's answer is back.
    std::int32_t in_flight = 1;
    // Whether the other workers are sent each step, too.
    bool to_all = false;
    // For how long; a few steps are made in any case.
    absl::Duration duration;
  };
  // Adds their seconds, without those of the first one, in which threads wake up. Fails with the
  // first worker's error, or UNAVAILABLE where a stream broke; nothing can be run afterwards.
  absl::Status Run(const Wanted& wanted, std::vector<double>* seconds);

 private:
  struct Shared;
  void Send(const Wanted& wanted);
  // When the step that is due next has all its answers.
  absl::StatusOr<absl::Duration> WaitForStep(bool to_all);

  const std::uint64_t generation_;
  std::vector<std::shared_ptr<StepStream>> streams_;
  const std::shared_ptr<Shared> shared_;
  std::uint64_t step_id_ = 0;
};

// The mean of the middle half of them: neither the moments in which the machine did something else,
// nor those of luck. 0 where there are none.
double MiddleMean(std::vector<double> seconds);

// Seconds of steps that were run in turns: behind another one, by themselves, and of `shares` times
// the same stages in one step.
struct OverheadSteps {
  std::vector<double> following;
  std::vector<double> lone;
  std::vector<double> many;
  std::size_t shares = 0;
};
// What is left of a step beside the stages, where a step of many shares has as much once.
StepOverhead TakeOverhead(const OverheadSteps& steps);

}  // namespace tandem
