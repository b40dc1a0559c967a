#pragma once

#include <cstdint>

namespace tandem {

// What the scheduler and the devices must agree on, and nothing else of a device: the gateway
// imports no device.

inline constexpr std::int32_t kKvBlockTokens = 16;  // tokens of a KV block, in both block groups

// What can be asked for at all: tables and messages are sized by these.
inline constexpr std::int32_t kMaxContextTokens = 1 << 20;
inline constexpr std::int32_t kMaxStepTokens = 4096;
inline constexpr std::int32_t kMaxStepSequences = 1024;

// Bounds that are fixed when a stage is compiled; a step outside them is INVALID_ARGUMENT.
struct StepLimits {
  std::int32_t max_tokens = 512;
  std::int32_t max_sequences = 32;
  std::int32_t max_logit_rows = 64;
  // length of a block table: longest context / kKvBlockTokens
  std::int32_t max_blocks_per_sequence = 256;
  // Most tokens of a step that takes the route of decode, where prompts have a route of their own;
  // 0: max_tokens, too.
  std::int32_t max_decode_tokens = 0;
  std::int32_t decode_tokens() const {
    return max_decode_tokens > 0 ? max_decode_tokens : max_tokens;
  }
  bool operator==(const StepLimits&) const = default;
};

}  // namespace tandem
