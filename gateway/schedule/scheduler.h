#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "gateway/schedule/block_pool.h"
#include "gateway/schedule/culprit_search.h"
#include "gateway/schedule/engine.h"
#include "gateway/schedule/step_bounds.h"
#include "lib/model/plan.h"
#include "lib/model/step_limits.h"
#include "lib/step/step_plan.h"

namespace tandem {

inline constexpr std::int32_t kMostStepsInFlight = 4;
inline constexpr std::int32_t kMostMicroBatches = 4;

struct SchedulerOptions {
  // max_tokens and max_logit_rows at least max_sequences, so that every decode fits a step; so is
  // max_decode_tokens, which counts where prompts take a route of their own, unless it is 0
  StepLimits limits;
  // prompt and completion of one request together
  std::int32_t context_tokens = 0;
  std::int32_t vocab_size = 0;
  // ModelConfig::hidden_size
  std::int32_t hidden_size = 0;
  // ModelConfig::sliding_window
  std::int32_t sliding_window = 0;
  // ModelConfig::bidirectional: requests pool and do nothing else, and a prompt is computed in one
  // step.
  bool encoder = false;
  // physical blocks of kKvBlockTokens tokens in each group
  std::int32_t global_blocks = 0;
  std::int32_t window_blocks = 0;
  // requests beyond max_sequences that are taken
  std::int32_t max_waiting = 64;
  // most prefill tokens of a step that also decodes: bounds how long a prompt holds up a stream
  std::int32_t mixed_prefill_tokens = 256;
  // a request whose steps fail more often in a row than this, with nobody else in them, ends with
  // kError
  std::int32_t max_replays = 3;
  // steps that are scheduled before the first one's results are back, 1 to kMostStepsInFlight
  std::int32_t steps_in_flight = 2;
  // bound of one StepPlan message; a request whose start alone does not fit is refused
  std::int64_t max_step_bytes = kDefaultStepBytes;
  // most micro-batches of a step, 1 to kMostMicroBatches, and the fewest tokens of one
  std::int32_t micro_batches = 1;
  // 0: decode and prompts share steps, which take the plan's one route. Else prompts take steps and
  // a route of their own, and this is the most micro-batches of one
  std::int32_t prefill_micro_batches = 0;
  std::int32_t min_micro_batch_tokens = 32;
  std::vector<std::int32_t> eos_ids;
};
// Those of the options that the plan decides.
struct SchedulerSizes {
  std::int32_t global_blocks = 1;
  std::int32_t window_blocks = 1;
  std::int32_t micro_batches = 1;
  std::int32_t prefill_micro_batches = 0;
  // Of `limits`.
  std::int32_t max_tokens = 1;
  std::int32_t max_decode_tokens = 0;
};
// INVALID_ARGUMENT names the option.
absl::Status ValidateSchedulerOptions(const SchedulerOptions& options);

// What happened to a request. For one request: kPromptScores and kPooled at most once and first,
// kToken any number of times, kFinish once and last.
struct RequestEvent {
  enum class Kind : std::uint8_t { kPromptScores, kPooled, kToken, kFinish };
  std::uint64_t request = 0;
  Kind kind = Kind::kToken;
  // kPromptScores
  std::vector<SampledToken> scores;
  // kPooled
  std::vector<float> pooled;
  // kToken
  SampledToken token;
  // kFinish
  FinishReason reason = FinishReason::kStop;
  // kFinish: not OK with kError
  absl::Status status;
};

// Why the workers start over.
struct StepFailure {
  // The step that failed; 0: it may have been any of those in flight.
  std::uint64_t step_id = 0;
  absl::Status status;
};

// Decides what each step computes. Pure data in, data out: no clock, no RPC, no device, no
// randomness; equal calls give equal steps.
//
// Every request is a row of tokens (prompt, then what was generated) and a count of how many of
// them are computed. A step takes the next tokens of some requests; the one that takes the last
// known token samples. Prefill, chunked prefill, decode and replay are that one mechanism.
//  - Several steps may be in flight. A request advances when it is scheduled: a sample whose result
//    is not back yet is a placeholder (kSampledToken), and results come in the order of the steps.
//    A request that ends for a reason found in a result leaves at most one useless share in each
//    later step in flight; that share's results are dropped. Its blocks and its slot may be given
//    to others at once, because workers run steps in order.
//  - Where a result says which tokens must follow (a constraint leaves no choice), they are known
//    without being sampled: they enter the row behind the placeholders, and the next step takes all
//    of them at once.
//  - Decodes (one token left) come first in every step, then prompts in order of arrival fill the
//    token budget. Where prompts take a route of their own (prefill_micro_batches), a step holds
//    decodes or prompts, and while there are both the two take turns, so that neither waits for
//    more than one step of the other; each kind has its bound of tokens.
//  - Admission is first come, first served, and reserves the KV blocks of the whole request (prompt
//    + max_tokens; in the window group the most it holds at once). So a running request never lacks
//    a block, nothing is preempted, nothing can deadlock; the price is that a request that ends
//    early has kept others waiting for blocks it did not use. A start that would make the step's
//    message too large waits for the next step.
//  - A step that fails is blamed on nobody in company. Suspects are run in halves
//    (culprit_search.h) until a request fails alone; that one ends with an error.
//
// In steady state Schedule, Update and TakeEvents allocate no memory. Not thread-safe.
class Scheduler {
 public:
  // `options` must be valid.
  explicit Scheduler(SchedulerOptions options);
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;

  // Takes the place of what the options say; while no request runs and no step is in flight. What
  // waits must fit the new sizes.
  void Resize(const SchedulerSizes& sizes);

  // Queues a request under an id never used before. INVALID_ARGUMENT names the field when it can
  // never run; RESOURCE_EXHAUSTED when max_sequences + max_waiting requests run or wait.
  absl::Status Add(std::uint64_t id, GenerationRequest request);
  // Ends the request with kCancelled and frees its slot and blocks at once (what steps in flight
  // compute for it is dropped). False when there is no such request (any more).
  bool Cancel(std::uint64_t id);

  // Fills *plan, whose memory is used again, with the next step. False when there is none: no
  // request can go on, or steps_in_flight steps are in flight. A step is in flight until Update or
  // Reset.
  bool Schedule(StepPlan* plan);
  // Takes the results of the oldest step in flight: moves out of *result what it needs. A request
  // whose own result is not OK ends with kError. INTERNAL, and nothing changes, when the result
  // does not answer the step.
  absl::Status Update(StepResult* result);
  // The workers lost their state, because of `failure` where steps were in flight. Running requests
  // go back to the head of the queue, in order, to replay prompt and tokens generated so far; their
  // text goes on where it was, because sampling depends on seed and position alone. A request that
  // was alone in the failed step ends with kError: at once when a worker called the step wrong,
  // after max_replays further tries when the cluster failed during it. Step ids begin at 1 again.
  void Reset(const StepFailure& failure);
  // Everything ends with kError.
  void FailAll(const absl::Status& status);

  // What happened since the last call, in order. *events gives its memory for the next ones.
  void TakeEvents(std::vector<RequestEvent>* events);

  const SchedulerOptions& options() const { return options_; }
  std::int32_t running() const { return static_cast<std::int32_t>(running_.size()); }
  std::int32_t waiting() const { return static_cast<std::int32_t>(waiting_.size()); }
  std::int32_t in_flight() const { return in_flight_count_; }
  bool searching() const { return search_.active(); }
  const BlockPool& global_pool() const { return global_; }
  const BlockPool& window_pool() const { return window_; }

 private:
  struct Request;
  struct InFlightShare {
    std::uint64_t request = 0;
    std::int32_t slot = 0;
    // First position after the share.
    std::int32_t end = 0;
    std::int32_t scores = 0;
    bool sample = false;
    bool pool = false;
  };
  struct InFlight {
    std::uint64_t step_id = 0;
    std::vector<InFlightShare> shares;
    std::vector<std::uint64_t> starts;
  };
  struct Budget;
  enum class Admission : std::uint8_t { kAdmitted, kNoRoom, kNextStep };

  // scheduler.cc: what steps are made of.
  std::int32_t WindowPeak(const Request& request, std::int32_t chunk) const;
  absl::Status CheckRequest(const GenerationRequest& request) const;
  absl::Status CheckEncoderRequest(const GenerationRequest& request) const;
  Admission TryAdmit(Request& request, StepPlan* plan, Budget* budget);
  void Admit(StepPlan* plan, Budget* budget);
  bool MayRun(const Request& request) const;
  bool Decodes(const Request& request) const;
  // Mixed, or of one kind.
  void PlaceAll(StepPlan* plan, Budget* budget);
  void PlaceMixed(StepPlan* plan, Budget* budget);
  void PlaceDecodes(StepPlan* plan, Budget* budget);
  void PlacePrompts(StepPlan* plan, Budget* budget);
  void PlaceWholePrompts(StepPlan* plan, Budget* budget);
  void PlacePrefill(Request& request, StepPlan* plan, Budget* budget);
  void Place(Request& request, std::int32_t count, StepPlan* plan, Budget* budget);
  void MoveWindow(Request& request, std::int32_t count, SequenceShare* share);
  InFlight& InFlightAt(std::int32_t index);
  const InFlight& InFlightAt(std::int32_t index) const;

  // scheduler_results.cc: what comes back, ends, and starting over.
  absl::Status CheckResult(const InFlight& step, const StepResult& result) const;
  void Apply(Request& request, const InFlightShare& share, SequenceResult* result);
  void TakeAhead(Request& request);
  void AddForced(Request& request, const std::vector<std::int32_t>& forced);
  RequestEvent& Emit(std::uint64_t id, RequestEvent::Kind kind);
  void FreeBlocks(Request& request);
  // Frees what the request holds, reports its end and forgets it.
  void Finish(std::uint64_t id, FinishReason reason, absl::Status status);
  // Gives the request that must end because of the failure; else makes suspects, where need be.
  std::optional<std::uint64_t> Blame(const StepFailure& failure);

  SchedulerOptions options_;
  BlockPool global_;
  BlockPool window_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Request>> requests_;
  // Next one first.
  std::deque<std::uint64_t> waiting_;
  // In order of admission.
  std::vector<Request*> running_;
  // The last one is taken next.
  std::vector<std::int32_t> free_slots_;
  // Slots whose end the workers do not know yet.
  std::vector<std::int32_t> ended_;
  CulpritSearch search_;
  std::uint64_t next_step_id_ = 1;
  // Of the last step.
  std::int32_t route_ = kDecodeRoute;
  // A ring: the oldest is at in_flight_first_.
  std::array<InFlight, kMostStepsInFlight> in_flight_;
  std::int32_t in_flight_first_ = 0;
  std::int32_t in_flight_count_ = 0;
  std::vector<RequestEvent> events_;
};

}  // namespace tandem
