#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "lib/device/step.h"
#include "lib/model/config.h"
#include "lib/model/step_limits.h"
#include "lib/sample/sampler.h"
#include "lib/step/step_plan.h"

namespace tandem {

// What a worker remembers of the sequences from step to step: block tables, sampling parameters,
// token counts, the last sampled token. Turns a StepPlan into the micro-batches that the device
// sees. One thread.
//
// All workers of a plan run the same tables over the same plans, and whether a share is left out
// depends on those alone: so they agree on the rows that cross their edges.

// What is wanted of one row of logits.
struct LogitUse {
  std::int32_t slot = 0;
  // The token to score; -1: none.
  std::int32_t score = -1;
  bool sample = false;
  // Of the token to be chosen.
  std::int64_t position = 0;
  // Index into StepResult::sequences.
  std::int32_t answer = 0;
};

// A token of a share that was known to come, because the slot's constraint left no choice.
struct ForcedToken {
  std::int32_t slot = 0;
  std::int32_t token = 0;
};

// Rows of final hidden states whose sum is wanted.
struct PoolUse {
  std::int32_t slot = 0;
  // Counted from the micro-batch's first token.
  std::int32_t first_row = 0;
  std::int32_t rows = 0;
  // Index into StepResult::sequences.
  std::int32_t answer = 0;
};

// Ranges in a StepBatch; all empty where every share of the micro-batch was left out.
struct MicroBatch {
  std::int32_t first_token = 0;
  std::int32_t num_tokens = 0;
  std::int32_t first_sequence = 0;
  std::int32_t num_sequences = 0;
  std::int32_t first_use = 0;
  std::int32_t num_uses = 0;
  std::int32_t first_pool = 0;
  std::int32_t num_pools = 0;
};

// A step as a device sees it, cut into micro-batches. Its memory is used again from step to step.
struct StepBatch {
  std::uint64_t id = 0;
  std::vector<std::int32_t> tokens;
  // Spans point into the slot table; first_token counts from the micro-batch's first.
  std::vector<StepSequence> sequences;
  // Row i, counted from the micro-batch's first token, is for uses[i].
  std::vector<std::int32_t> logit_rows;
  std::vector<LogitUse> uses;
  std::vector<PoolUse> pools;
  // Of the rows.
  std::vector<float> inverse_temperatures;
  std::vector<MicroBatch> micro_batches;
  // At the head, of slots with a constraint: what shares bring behind a sampled token, in order.
  std::vector<ForcedToken> forced;

  Step step(std::int32_t micro_batch) const;
};

// Bounds of the generation.
struct SlotBounds {
  ModelConfig config;
  StepLimits limits;
  std::int32_t global_blocks = 0;
  std::int32_t window_blocks = 0;
  std::int32_t max_micro_batches = 1;
  // This worker samples: its results speak of all shares that do, not of those alone that failed.
  bool head = false;
};

class SlotTable {
 public:
  explicit SlotTable(SlotBounds bounds);

  // Applies the step and fills *batch (its spans point into this table until the next call).
  // INVALID_ARGUMENT: the step as a whole is malformed; it names the field, and everything is as it
  // was. FAILED_PRECONDITION: a slot took part in a step that failed and was not started again.
  //
  // A share that is wrong in itself is left out of the batch, and so are all later ones of its
  // slot until that ends; each gets an entry in `result` with the reason. At the head every share
  // that samples, scores or pools gets an entry, too.
  absl::Status Apply(const StepPlan& plan, StepBatch* batch, StepResult* result);

  // The token chosen for a slot: it stands for kSampledToken in the next share, and counts for the
  // penalties.
  void SetSampled(std::int32_t slot, std::int32_t token);
  // The head could not use the slot's logits. The other workers do not know, so its tokens are
  // still computed (any stands for the one that was not sampled), and each share answers `status`.
  void SetHeadFault(std::int32_t slot, absl::Status status);
  // The step failed after Apply: its slots' contents are undefined until they end.
  void Spoil(const StepBatch& batch);

  const SamplingParams& sampling(std::int32_t slot) const { return At(slot).sampling; }
  const TokenCounts& counts(std::int32_t slot) const { return At(slot).counts; }

 private:
  struct Slot {
    bool active = false;
    // It took part in a step that failed here; other workers may not know.
    bool spoiled = false;
    // The last share asked for a token.
    bool sampled = false;
    std::int32_t last_token = 0;
    // The position after the last token that was sampled or forced; -1 while none was.
    std::int32_t generated_end = -1;
    std::int32_t next_position = 0;
    std::int32_t window_left = 0;
    // Why its shares are left out, on every worker.
    absl::Status fault;
    absl::Status head_fault;
    SamplingParams sampling;
    TokenCounts counts;
    std::vector<std::int32_t> global_table;
    std::vector<std::int32_t> window_table;
    void Reset();
  };
  // A slot as a step finds it after its `ends` and `starts`; only while the plan is checked.
  struct View {
    bool active = false;
    bool fresh = false;
    bool shared = false;
  };

  absl::Status CheckPlan(const StepPlan& plan);
  absl::Status CheckSums(const StepPlan& plan) const;
  absl::Status CheckSlotNumber(absl::string_view field, std::int32_t slot) const;
  void Start(const SequenceStart& start);
  // What is wrong with a share in itself.
  absl::Status CheckShare(const SequenceShare& share, const Slot& slot) const;
  absl::Status CheckTokens(const SequenceShare& share, const Slot& slot) const;
  absl::Status CheckBlocks(const SequenceShare& share, const Slot& slot) const;
  // Updates the slot; the batch takes the tokens by AddPart.
  void ApplyShare(const SequenceShare& share, Slot* slot);
  void TakeForced(const SequenceShare& share, Slot* slot, StepBatch* batch);
  // Tokens [begin, end) of the share, to the micro-batch that is being filled.
  void AddPart(const SequenceShare& share, std::int32_t begin, std::int32_t end,
               std::int32_t answer, StepBatch* batch);
  void AddUse(const SequenceShare& share, std::int32_t index, std::int32_t answer,
              StepBatch* batch);

  Slot& At(std::int32_t slot) { return slots_[static_cast<std::size_t>(slot)]; }
  const Slot& At(std::int32_t slot) const { return slots_[static_cast<std::size_t>(slot)]; }

  SlotBounds bounds_;
  // Whether the model has layers of the group: else its block tables may stay empty.
  bool has_global_ = false;
  bool has_window_ = false;
  std::vector<Slot> slots_;
  std::vector<View> views_;
};

}  // namespace tandem
