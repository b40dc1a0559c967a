#pragma once

#include <cstdint>
#include <span>

#include "lib/model/step_limits.h"  // kKvBlockTokens

namespace tandem {

// What one step computes, as a device sees it. All spans belong to the caller and need to live only
// until Program::Begin returns.

// a logical block that the sliding window has left behind
inline constexpr std::int32_t kNoBlock = -1;

// One sequence's share of a step: tokens [first_token, first_token + num_tokens) of the step's flat
// token list, which stand at positions first_position, first_position + 1, ... of the sequence. KV
// of all earlier positions is in the cache already.
struct StepSequence {
  // [0, max_sequences), unique within a step; identifies the sequence from step to step
  std::int32_t slot = 0;
  std::int32_t first_token = 0;
  // From 1, and from 0.
  std::int32_t num_tokens = 0;
  std::int32_t first_position = 0;
  // Entry j is the physical block that holds positions [j * kKvBlockTokens, (j + 1) *
  // kKvBlockTokens). Both reach at least to the last position of this step. A window entry may be
  // kNoBlock where no query of this step sees it.
  std::span<const std::int32_t> global_blocks;
  std::span<const std::int32_t> window_blocks;
};

struct Step {
  // For logs and traces.
  std::uint64_t id = 0;
  // vocabulary ids, all sequences one after another; 1 to max_tokens
  std::span<const std::int32_t> tokens;
  // in the order of their tokens, covering all of them; 1 to max_sequences
  std::span<const StepSequence> sequences;
  // indices into tokens, ascending, whose logits the head computes; 0 to max_logit_rows
  std::span<const std::int32_t> logit_rows;
  // 1 / temperature of each logit row, for Program::candidates; positive. Empty: all 1.
  std::span<const float> inverse_temperatures = {};
  // The head gives the final hidden states of all tokens, too (Program::hidden_states).
  bool hidden_states = false;
};

}  // namespace tandem
