#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "gateway/schedule/block_pool.h"
#include "gateway/schedule/engine.h"
#include "gateway/schedule/request_event.h"
#include "lib/model/step_limits.h"
#include "lib/step/step_plan.h"

namespace tandem {

struct SchedulerOptions {
  // max_tokens and max_logit_rows at least max_sequences, so that every decode fits a step
  StepLimits limits;
  std::int32_t context_tokens = 0;  // prompt and completion of one request together
  std::int32_t vocab_size = 0;
  std::int32_t sliding_window = 0;  // ModelConfig::sliding_window
  std::int32_t global_blocks = 0;   // physical blocks of kKvBlockTokens tokens in each group
  std::int32_t window_blocks = 0;
  std::int32_t max_waiting = 64;  // requests beyond max_sequences that may be in the house
  // most prefill tokens of a step that also decodes: bounds how long a prompt holds up a stream
  std::int32_t mixed_prefill_tokens = 256;
  // a request that sees more resets in a row while a step of it runs, without one result of its own
  // ends with kError
  std::int32_t max_replays = 3;
  std::vector<std::int32_t> eos_ids;
};
// INVALID_ARGUMENT names the option.
absl::Status ValidateSchedulerOptions(const SchedulerOptions& options);

// Decides what each step computes. Pure data in, data out: no clock, no RPC, no device, no
// randomness; equal calls give equal steps.
//
// Every request is a row of tokens (prompt, then what was generated) and a count of how many of
// them are computed. A step takes the next tokens of some requests; the one that takes the last
// known token samples. Prefill, chunked prefill, decode and replay are that one mechanism.
//  - Decodes (one token left) come first in every step, then prompts in order of arrival fill the
//  token budget.
//  - Admission is first come, first served, and reserves the KV blocks of the whole request (prompt
//  + max_tokens; in the window group the most
//    it holds at once). So a running request never lacks a block, nothing is preempted, nothing can
//    deadlock; the price is that a request that ends early has kept others waiting for blocks it
//    did not use.
//  - One step at a time: Schedule, Update, Schedule, ...
// Not thread-safe.
class Scheduler {
 public:
  explicit Scheduler(SchedulerOptions options);  // must be valid
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;

  // Queues a request under an id never used before. INVALID_ARGUMENT names the field when it can
  // never run; RESOURCE_EXHAUSTED when max_sequences + max_waiting requests are in the house.
  absl::Status Add(std::uint64_t id, GenerationRequest request);
  // Ends the request with kCancelled and frees its slot and blocks at once (what a step in flight
  // computes for it is dropped). False when there is no such request (any more).
  bool Cancel(std::uint64_t id);

  // The next step, or nothing when no request can run. The step counts as in flight until Update,
  // FailStep or Reset.
  std::optional<StepPlan> Schedule();
  // Takes the results of the step in flight. INTERNAL, and nothing changes, when they do not answer
  // it.
  absl::Status Update(StepResult result);
  // The step in flight was refused: its requests end with kError. Reset must follow.
  void FailStep(const absl::Status& status);
  // The workers lost their state. Running requests go back to the head of the queue, in order, to
  // replay prompt and tokens generated so far; their text goes on where it was, because sampling
  // depends on seed and position alone. Step ids begin at 1 again.
  void Reset();
  // Everything ends with kError.
  void FailAll(const absl::Status& status);

  // What happened since the last call, in order.
  std::vector<RequestEvent> TakeEvents();

  const SchedulerOptions& options() const { return options_; }
  std::int32_t running() const { return static_cast<std::int32_t>(running_.size()); }
  std::int32_t waiting() const { return static_cast<std::int32_t>(waiting_.size()); }
  bool in_flight() const { return in_flight_.has_value(); }
  const BlockPool& global_pool() const { return global_; }
  const BlockPool& window_pool() const { return window_; }

 private:
  struct Request;
  struct InFlightShare {
    std::uint64_t request = 0;
    std::int32_t slot = 0;
    std::int32_t tokens = 0;
    std::int32_t scores = 0;
    bool sample = false;
  };
  struct InFlight {
    std::uint64_t step_id = 0;
    std::vector<InFlightShare> shares;
  };
  struct Budget;

  std::int32_t WindowPeak(const Request& request, std::int32_t chunk) const;
  absl::Status CheckRequest(const GenerationRequest& request) const;
  void Admit(StepPlan* plan);
  void PlacePrefill(Request& request, Budget* budget, StepPlan* plan);
  void Place(Request& request, std::int32_t count, Budget* budget, StepPlan* plan);
  void MoveWindow(Request& request, std::int32_t count, SequenceShare* share);
  absl::Status CheckResult(const StepResult& result) const;
  void Apply(Request& request, const InFlightShare& share, SequenceResult result);
  RequestEvent& Emit(std::uint64_t id, RequestEvent::Kind kind);
  void FreeBlocks(Request& request);
  // Frees what the request holds, tells its end and forgets it.
  void Finish(std::uint64_t id, FinishReason reason, absl::Status status);

  SchedulerOptions options_;
  BlockPool global_;
  BlockPool window_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Request>> requests_;
  std::deque<std::uint64_t> waiting_;     // next one first
  std::vector<std::uint64_t> running_;    // in order of admission
  std::vector<std::int32_t> free_slots_;  // the last one is taken next
  std::vector<std::int32_t> ended_;       // slots whose end the workers have not been told yet
  std::uint64_t next_step_id_ = 1;
  std::optional<InFlight> in_flight_;
  std::vector<RequestEvent> events_;
};

}  // namespace tandem
