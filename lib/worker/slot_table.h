#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "lib/device/step.h"
#include "lib/model/config.h"
#include "lib/model/step_limits.h"
#include "lib/sample/sampler.h"

namespace tandem::v1 {
class SequenceShare;
class StepPlan;
}  // namespace tandem::v1

namespace tandem {

// What a worker remembers of the sequences from step to step: block tables, sampling parameters,
// token counts, the last sampled token. Turns a StepPlan into the step that the device sees. One
// thread.

// What is wanted of one row of logits.
struct LogitUse {
  std::int32_t row = 0;    // of the stage's logits
  std::int32_t share = 0;  // index of the sequence in the step
  std::int32_t slot = 0;
  std::int32_t score = -1;  // the token to score; -1: none
  bool sample = false;
  std::int64_t position = 0;  // of the token to be chosen
};

struct StepBatch {
  std::uint64_t id = 0;
  std::vector<std::int32_t> tokens;
  std::vector<StepSequence> sequences;
  std::vector<std::int32_t> logit_rows;
  std::vector<LogitUse> uses;
  Step step() const { return {id, tokens, sequences, logit_rows}; }
};

// Bounds of the generation.
struct SlotBounds {
  ModelConfig config;
  StepLimits limits;
  std::int32_t global_blocks = 0;
  std::int32_t window_blocks = 0;
};

class SlotTable {
 public:
  explicit SlotTable(SlotBounds bounds);

  // Checks every field, then applies the step and fills *batch (without sequences when the step
  // only ends or starts some; its spans point into this table until the next call).
  // INVALID_ARGUMENT names the field and leaves everything as it was. FAILED_PRECONDITION: the slot
  // took part in a step that failed and was not started again.
  absl::Status Apply(const v1::StepPlan& plan, StepBatch* batch);

  // The token chosen for a slot: it stands for -1 in the next share, and counts for the penalties.
  void SetSampled(std::int32_t slot, std::int32_t token);
  // The step failed after Apply: its slots' contents are undefined until they end.
  void Spoil(const StepBatch& batch);

  const SamplingParams& sampling(std::int32_t slot) const {
    return slots_[static_cast<std::size_t>(slot)].sampling;
  }
  const TokenCounts& counts(std::int32_t slot) const {
    return slots_[static_cast<std::size_t>(slot)].counts;
  }

 private:
  struct Slot {
    bool active = false;
    bool spoiled = false;
    bool sampled = false;  // the last share asked for a token
    std::int32_t last_token = 0;
    std::int32_t next_position = 0;
    std::int32_t window_left = 0;
    SamplingParams sampling;
    TokenCounts counts;
    std::vector<std::int32_t> global_table;
    std::vector<std::int32_t> window_table;
    void Reset();
  };
  // A slot as a step finds it after its `ends` and `starts`, before its shares; only while
  // checking.
  struct View {
    bool active = false;
    bool fresh = false;
    bool shared = false;
  };

  absl::Status CheckEndsAndStarts(const v1::StepPlan& plan, std::vector<SamplingParams>* sampling);
  absl::Status CheckShare(const v1::SequenceShare& share, std::int64_t* tokens, std::int64_t* rows);
  absl::Status CheckBlocks(const v1::SequenceShare& share, const Slot& slot, bool fresh);
  absl::Status CheckTokens(const v1::SequenceShare& share, const Slot& slot, bool fresh);
  void ApplyShare(const v1::SequenceShare& share, std::int32_t index, StepBatch* batch);
  absl::Status CheckSlotNumber(absl::string_view field, std::int32_t slot) const;

  SlotBounds bounds_;
  // whether the model has layers of the group: else its block tables may stay empty
  bool has_global_ = false;
  bool has_window_ = false;
  std::vector<Slot> slots_;
  std::vector<View> views_;
};

}  // namespace tandem
