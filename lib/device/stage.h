#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/device/step.h"
#include "lib/model/step_limits.h"  // StepLimits

namespace tandem {

// What a stage computes: a run of half layers, perhaps with the embedding before and the head
// behind. Attention of layer i is half 2i, its feed-forward half is 2i + 1.
struct StageSpec {
  bool embed = false;  // starts from tokens instead of an input residual; then first_half is 0
  std::int32_t first_half = 0;  // half layers [first_half, last_half)
  std::int32_t last_half = 0;
  // ends with final norm and logits instead of an output residual; then last_half is 2 * num_layers
  bool head = false;
  bool operator==(const StageSpec&) const = default;

  // Whether an even half (attention) lies in the range.
  bool HasAttention() const { return (first_half + 1) / 2 * 2 < last_half; }
};
std::string StageSpecName(
    const StageSpec& spec);  // "embed+attention 0+ffn 0", "layers 0-25+head", for people

enum class ActivationType : std::uint8_t {
  kFloat32,
  kInt8
};  // how activations enter matrix products with int8/int4 weights
enum class KvType : std::uint8_t { kFloat32, kFloat16 };

struct Ticket {
  std::uint64_t value = 0;  // grows by one with each Submit of the stage
};

// A compiled stage. One thread at a time may call it; at most one step is in flight per stage (a
// second Submit before Wait: FAILED_PRECONDITION). In steady state Submit and Wait allocate
// nothing, update no descriptors and record no commands.
class Stage {
 public:
  virtual ~Stage() = default;

  // Starts a step. Reads the residual of `input_slot` and writes that of `output_slot` (ignored
  // where the stage embeds or is the head). The rows of the step's tokens are rows 0.. of the slot.
  // Validates the step; on error nothing has started.
  virtual absl::StatusOr<Ticket> Submit(const Step& step, std::int32_t input_slot,
                                        std::int32_t output_slot) = 0;
  // Returns when the step is done and its output can be read by every importer of the output
  // residual; DEADLINE_EXCEEDED leaves it running. CANCELLED after Cancel, UNAVAILABLE when the
  // device is lost (the process should exit).
  virtual absl::Status Wait(Ticket ticket, absl::Time deadline) = 0;
  // Asks the running step to stop soon, from any thread. Its outputs are then undefined and Wait
  // returns CANCELLED, or OK when it was done before.
  virtual void Cancel() = 0;

  // float32 logits of the last step's logit_rows, (rows, vocab); valid after Wait until the next
  // Submit. Empty without a head.
  virtual std::span<const float> logits() const = 0;
};

}  // namespace tandem
