#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/deadline.h"
#include "lib/device/stage.h"
#include "lib/device/step.h"
#include "lib/model/step_limits.h"
#include "lib/sample/candidates.h"

namespace tandem {

class KvCache;
class ResidualBuffer;
class Weights;

// One stage of a program with the residuals it reads and writes.
struct ProgramStage {
  StageSpec spec;
  // Null where it embeds.
  ResidualBuffer* input = nullptr;
  // Null where it is the head. The same buffer may be bound by several stages.
  ResidualBuffer* output = nullptr;
  // Most tokens of its steps, so that it needs no memory for more; 0: what the limits say.
  std::int32_t max_tokens = 0;
};

// All stages of one worker and everything they are tied to. Buffers, weights and cache must outlive
// the program.
struct ProgramSpec {
  std::vector<ProgramStage> stages;
  // The regions that the stages' halves need, in any order.
  std::vector<std::shared_ptr<const Weights>> weights;
  // Needed where a stage has attention.
  KvCache* kv_cache = nullptr;
  StepLimits limits;
  ActivationType activations = ActivationType::kFloat32;
  // Steps (or micro-batches) whose inputs the program holds at once; 1 to kMaxContexts.
  std::int32_t contexts = 2;
};
inline constexpr std::int32_t kMaxContexts = 16;
inline std::int32_t MostTokens(const ProgramStage& stage, const StepLimits& limits) {
  return stage.max_tokens > 0 ? stage.max_tokens : limits.max_tokens;
}

// Names a submission; grows by one with each of a program.
struct Ticket {
  std::uint64_t value = 0;
};

// The compiled stages of one worker. Scratch memory exists once: stages run one after another, in
// the order of their submission. A *context* holds the inputs of one step (tokens, positions, block
// tables) and, where the head stands, its logits; Begin validates and uploads a step once, then
// any number of stages are submitted against it.
//
// A submission is *under way* until Wait has returned for it or for a later one with anything but
// DEADLINE_EXCEEDED. At most contexts() are; any of them may use the same context.
//
// One thread at a time calls it; Cancel any thread. In steady state nothing here allocates, writes
// a descriptor or records a command. The destructor cancels what is under way and waits for it.
class Program {
 public:
  virtual ~Program() = default;
  virtual std::int32_t contexts() const = 0;

  // Puts `step` into `context`, whose logits are then empty. INVALID_ARGUMENT names what is wrong
  // with the step and leaves the context empty; or the context is not in [0, contexts()).
  // FAILED_PRECONDITION while a submission that uses the context is under way. The step's spans
  // need to live only until Begin returns.
  virtual absl::Status Begin(std::int32_t context, const Step& step) = 0;

  // Starts stage `stage` (an index into ProgramSpec::stages) on the step in `context`: reads the
  // residual rows 0.. of `input_slot` and writes those of `output_slot` (ignored where the stage
  // embeds or is the head). INVALID_ARGUMENT where the step has more tokens than the stage takes,
  // FAILED_PRECONDITION where the context is empty, RESOURCE_EXHAUSTED
  // where contexts() submissions are under way; on any error nothing has started.
  virtual absl::StatusOr<Ticket> Submit(std::int32_t stage, std::int32_t context,
                                        std::int32_t input_slot, std::int32_t output_slot) = 0;
  // Returns when the submission (and all before it) is done and its output can be read by every
  // importer of the output residual. DEADLINE_EXCEEDED leaves it running. CANCELLED after Cancel:
  // its outputs are then undefined; or OK for what was done before. UNAVAILABLE when the device is
  // lost (the process should exit). The answer for each of the last contexts() tickets may be asked
  // again, so that waiting for a later one loses none.
  virtual absl::Status Wait(Ticket ticket, Deadline deadline) = 0;
  // Asks everything submitted so far to stop soon.
  virtual void Cancel() = 0;

  // float32 logits of the context's logit_rows, (rows, vocab): there after an OK from Wait for the
  // stage with the head, until the context's next Begin. Empty before, and without a head. A device
  // with memory of its own copies them when they are asked for the first time, and gives none where
  // that fails.
  virtual std::span<const float> logits(std::int32_t context) const = 0;

  // float32 hidden states behind the final norm, (tokens, hidden), of a step that asked for them:
  // there as long as its logits are. Empty before, without a head, and where nobody asked.
  virtual std::span<const float> hidden_states(std::int32_t context) const = 0;

  // What the device has found out of a row of these logits: the best ones, and sums with the row's
  // temperature. Nothing where it does not, or where the row must be looked at whole. `memory`
  // holds what the result refers to.
  virtual std::optional<LogitCandidates> candidates(std::int32_t /*context*/, std::int32_t /*row*/,
                                                    CandidateMemory* /*memory*/) const {
    return std::nullopt;
  }

  // Memory for scratch, step inputs and logits, in bytes.
  virtual std::uint64_t scratch_bytes() const = 0;
};

}  // namespace tandem
