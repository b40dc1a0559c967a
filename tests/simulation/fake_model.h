#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/schedule/engine.h"
#include "lib/model/step_limits.h"
#include "lib/step/step_plan.h"

namespace tandem {

// A model that is a hash: the next token depends on the seed and on every token before it, as a
// real one's does, so a lost, doubled or misplaced token changes all the text behind it.
struct FakeModel {
  std::int32_t vocab_size = 997;
  std::int32_t eos_id = 1;
  // About one token in so many ends the text.
  std::int32_t eos_in = 40;
  std::int32_t hidden_size = 4;

  SampledToken Next(std::span<const std::int32_t> history, const SamplingParams& sampling) const;
  SampledToken Score(std::span<const std::int32_t> history, std::int32_t token) const;
  // Of a request with a constraint: what comes after `history`, as far as it is said ahead. That is
  // nothing at most places, and now and then more than one result may name.
  std::vector<std::int32_t> Forced(std::vector<std::int32_t> history,
                                   const SamplingParams& sampling) const;
  // Adds the hidden state of the last token: small whole numbers, whose sums are exact.
  void AddHiddenState(std::span<const std::int32_t> history, std::vector<double>* sum) const;
};

struct FakeText {
  std::vector<SampledToken> scores;
  std::vector<float> pooled;
  std::vector<std::int32_t> tokens;
  FinishReason reason = FinishReason::kLength;
};
// What a request must produce, whatever happens to the cluster meanwhile.
FakeText Expect(const FakeModel& model, const GenerationRequest& request);

// What is wrong with a request. It travels in the seed, so that a worker sees it; the text depends
// on all of the seed.
struct Poison {
  enum class Kind : std::uint8_t {
    kNone,
    // A step with the share that holds `position` fails whole.
    kStep,
    // The same, and the worker dies of it.
    kCrash,
    // Such a share fails, and only that one.
    kSequence,
    // From `position` on, a step with a share of it fails now and then.
    kSometimes,
  };
  Kind kind = Kind::kNone;
  std::int32_t position = 0;
};
std::uint64_t PoisonedSeed(std::uint64_t seed, Poison poison);
Poison PoisonOf(std::uint64_t seed);

// What a worker keeps, with tokens in the place of keys and values: its answers come out of the
// paged caches alone, through the block tables that the steps gave it. Any mistake in slots,
// positions or blocks is INVALID_ARGUMENT or another text.
class FakeWorkerState {
 public:
  FakeWorkerState(FakeModel model, StepLimits limits, std::int32_t sliding_window,
                  std::int32_t global_blocks, std::int32_t window_blocks);
  // Micro-batch after micro-batch. A result that is not OK is INVALID_ARGUMENT for a mistake, or
  // what a poisoned share does: INTERNAL, or UNAVAILABLE for kCrash. `sometimes` decides what
  // kSometimes does, and must say the same to all workers.
  absl::StatusOr<StepResult> Run(const StepPlan& plan, bool sometimes = false);

 private:
  struct Cell {
    std::int32_t position = -1;
    std::int32_t token = -1;
    bool operator==(const Cell&) const = default;
  };
  struct Slot {
    SamplingParams sampling;
    std::vector<std::int32_t> global_blocks;
    std::vector<std::int32_t> window_blocks;
    std::int32_t length = 0;
    // What kSampledToken stands for; none when the last share did not sample.
    std::optional<std::int32_t> sampled;
    bool spoiled = false;
  };
  // Tokens [begin, end) of a share, in one micro-batch.
  struct Portion {
    const SequenceShare* share = nullptr;
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  absl::Status Enter(const StepPlan& plan);
  absl::Status CheckPoison(const StepPlan& plan, bool sometimes);
  absl::Status TakeBlocks(const SequenceShare& share);
  absl::Status Write(const Portion& portion);
  absl::Status Compute(const Portion& portion, SequenceResult* result);
  absl::StatusOr<std::vector<std::int32_t>> Read(const Slot& slot, std::int32_t first_query) const;

  FakeModel model_;
  StepLimits limits_;
  std::int32_t sliding_window_;
  std::vector<std::array<Cell, kKvBlockTokens>> global_;
  std::vector<std::array<Cell, kKvBlockTokens>> window_;
  std::map<std::int32_t, Slot> slots_;
  std::uint64_t last_step_ = 0;
};

}  // namespace tandem
