#pragma once

#include <array>
#include <cstdint>
#include <map>
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
  std::int32_t eos_in = 40;  // about one token in so many ends the text

  SampledToken Next(std::span<const std::int32_t> history, const SamplingParams& sampling) const;
  SampledToken Score(std::span<const std::int32_t> history, std::int32_t token) const;
};

struct FakeText {
  std::vector<SampledToken> scores;
  std::vector<std::int32_t> tokens;
  FinishReason reason = FinishReason::kLength;
};
// What a request must produce, whatever happens to the cluster meanwhile.
FakeText Expect(const FakeModel& model, const GenerationRequest& request);

// What a worker keeps, with tokens in the place of keys and values: its answers come out of the
// paged caches alone, through the block tables that the steps gave it. Any mistake in slots,
// positions or blocks is INVALID_ARGUMENT or another text.
class FakeWorkerState {
 public:
  FakeWorkerState(FakeModel model, StepLimits limits, std::int32_t sliding_window,
                  std::int32_t global_blocks, std::int32_t window_blocks);
  absl::StatusOr<StepResult> Run(const StepPlan& plan);

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
  };
  absl::Status Enter(const StepPlan& plan);
  absl::Status Write(const SequenceShare& share);
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
