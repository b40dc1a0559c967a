#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/deadline.h"
#include "lib/constrain/token_masks.h"
#include "lib/sample/sampler.h"

namespace tandem {

// The constraints of a worker's slots: which tokens may be sampled next. What takes time (compiling
// a grammar, making a mask) runs in a thread of its own, while the device computes the step whose
// logits the mask is for. All calls but the destructor come from the thread that runs steps.
class ConstraintTable {
 public:
  // `cache` outlives the generation: grammars are compiled once.
  ConstraintTable(std::shared_ptr<MaskCache> cache, std::int32_t slots);
  ~ConstraintTable();
  ConstraintTable(const ConstraintTable&) = delete;
  ConstraintTable& operator=(const ConstraintTable&) = delete;

  // The slot begins, with tokens that were generated before; null: without constraint.
  void Start(std::int32_t slot, std::shared_ptr<const Constraint> constraint,
             std::vector<std::int32_t> generated);
  void End(std::int32_t slot) { Start(slot, nullptr, {}); }

  struct Choice {
    // >= 0: this very token, and there is no mask.
    std::int32_t token = -1;
    std::shared_ptr<const TokenMask> mask;
  };
  // Of a slot with a constraint. Waits for the mask, where it is not ready. Errors are about this
  // slot's request alone: OUT_OF_RANGE where its grammar cannot be followed, INVALID_ARGUMENT where
  // it is none, DEADLINE_EXCEEDED.
  absl::StatusOr<Choice> Next(std::int32_t slot, Deadline deadline);
  // What was chosen. Gives tokens that must follow, at most kMaxForcedTokens; Next will give them
  // one after another. Which tokens those are follows from the text alone, not from where it was
  // begun.
  absl::StatusOr<std::vector<std::int32_t>> Accept(std::int32_t slot, std::int32_t token);
  // The next one of those came with a step, and need not be sampled any more.
  absl::Status TakeForced(std::int32_t slot, std::int32_t token);

 private:
  struct Slot {
    // Grows with every job that is queued: what an earlier one finds is dropped.
    std::uint64_t job = 0;
    std::shared_ptr<const Constraint> constraint;
    // Until it has begun.
    std::vector<std::int32_t> generated;
    std::shared_ptr<TokenMasks> masks;
    TokenMasks::State state = 0;
    // `state` is the one behind all of these.
    std::deque<std::int32_t> forced;
    bool ready = false;
    absl::Status status;
    std::shared_ptr<const TokenMask> mask;
  };
  Slot& At(std::int32_t slot) { return slots_[static_cast<std::size_t>(slot)]; }
  void Queue(std::int32_t slot);
  void Run();
  // With the lock open in between.
  void Prepare(std::int32_t slot, std::unique_lock<std::mutex>& lock);
  // The state behind `accepted` (>= 0) and behind all that must follow then; a mask is made for
  // that where it is another one. The slot has no forced tokens left.
  absl::Status Advance(std::int32_t slot, std::int32_t accepted);
  // What must follow, up to kMaxForcedTokens; `state` is behind that then.
  static absl::StatusOr<std::vector<std::int32_t>> TakeAllForced(TokenMasks& masks,
                                                                 TokenMasks::State* state);

  const std::shared_ptr<MaskCache> cache_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable ready_;
  std::vector<Slot> slots_;
  std::deque<std::int32_t> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tandem
