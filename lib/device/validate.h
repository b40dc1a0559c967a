#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "lib/device/device.h"
#include "lib/device/program.h"
#include "lib/device/step.h"
#include "lib/model/config.h"

namespace tandem {

// The checks that every device makes first. All errors are INVALID_ARGUMENT and name what was
// expected and what was found.

// The layers are the model's and ascend, and each has a block at least.
absl::Status ValidateKvCacheSpec(const ModelConfig& config, const KvCacheSpec& spec);
// Bytes of one plane (the keys, or the values) of a layer: (blocks, kv_heads, kKvBlockTokens,
// head_dim).
std::uint64_t KvPlaneBytes(const ModelConfig& config, const KvCacheSpec& spec, std::int32_t layer);

// Every stage fits the model, its weights and layers are there, its residuals are large enough.
absl::Status ValidateCompile(const ModelConfig& config, const ProgramSpec& spec);

// What a program's steps must fulfil, worked out once.
struct StepRules {
  StepLimits limits;
  std::int32_t vocab_size = 0;
  std::int32_t sliding_window = 0;
  // Sequences come whole: ModelConfig::bidirectional.
  bool bidirectional = false;
  // A stage embeds. Elsewhere ids may be unknown: another worker samples them.
  bool embeds = false;
  bool head = false;
  // Blocks that a table of the group may name; 0 where no stage attends over such layers, and its
  // tables are not looked at.
  std::int32_t global_blocks = 0;
  std::int32_t window_blocks = 0;
};
// Of a program that ValidateCompile accepted.
StepRules StepRulesOf(const ModelConfig& config, const ProgramSpec& spec);
// Allocates nothing for a valid step.
absl::Status ValidateStep(const StepRules& rules, const Step& step);

// Entries of a block table that a share of a step needs: those up to its last position.
inline std::size_t BlocksUsed(const StepSequence& sequence) {
  const std::int64_t end = std::int64_t{sequence.first_position} + sequence.num_tokens;
  return static_cast<std::size_t>((end + kKvBlockTokens - 1) / kKvBlockTokens);
}

}  // namespace tandem
