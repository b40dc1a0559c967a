#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/device/device.h"

namespace tandem {
namespace {

// Texts are built only when something is wrong: a valid step allocates nothing.
template <typename... Parts>
absl::Status Bad(const Step& step, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("step ", step.id, ": ", parts...));
}

struct KvUse {
  bool global = false;
  bool window = false;
};

KvUse KvUseOf(const ModelConfig& config, const StageSpec& spec) {
  KvUse use;
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    if (half % 2 == 1) continue;
    (config.layer_is_global[static_cast<std::size_t>(half / 2)] ? use.global : use.window) = true;
  }
  return use;
}

absl::Status CheckCounts(const StepLimits& limits, const Step& step) {
  const auto tokens = static_cast<std::int64_t>(step.tokens.size());
  const auto sequences = static_cast<std::int64_t>(step.sequences.size());
  const auto rows = static_cast<std::int64_t>(step.logit_rows.size());
  if (tokens < 1 || tokens > limits.max_tokens) {
    return Bad(step, "expected 1 to ", limits.max_tokens, " tokens, found ", tokens);
  }
  if (sequences < 1 || sequences > limits.max_sequences) {
    return Bad(step, "expected 1 to ", limits.max_sequences, " sequences, found ", sequences);
  }
  if (rows > limits.max_logit_rows) {
    return Bad(step, "expected at most ", limits.max_logit_rows, " logit rows, found ", rows);
  }
  std::int32_t before = -1;
  for (const std::int32_t row : step.logit_rows) {
    if (row <= before || row >= tokens) {
      return Bad(step, "expected ascending logit rows in [0, ", tokens, "), found ", row, " after ",
                 before);
    }
    before = row;
  }
  return absl::OkStatus();
}

// Entries [first, last] of a block table name physical blocks.
absl::Status CheckBlocks(const Step& step, const StepSequence& sequence,
                         std::span<const std::int32_t> table, std::int64_t first, std::int64_t last,
                         std::int32_t blocks, absl::string_view group) {
  if (static_cast<std::int64_t>(table.size()) <= last) {
    return Bad(step, "slot ", sequence.slot, ": expected at least ", last + 1, " entries in the ",
               group, " block table, found ", table.size());
  }
  for (std::int64_t i = first; i <= last; ++i) {
    const std::int32_t block = table[static_cast<std::size_t>(i)];
    if (block < 0 || block >= blocks) {
      return Bad(step, "slot ", sequence.slot, ": expected a block in [0, ", blocks, ") at entry ",
                 i, " of the ", group, " block table, found ", block);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTables(const ModelConfig& config, const StepLimits& limits, const KvCacheSpec& kv,
                         KvUse use, const Step& step, const StepSequence& sequence) {
  const auto most = static_cast<std::size_t>(limits.max_blocks_per_sequence);
  if (sequence.global_blocks.size() > most || sequence.window_blocks.size() > most) {
    return Bad(step, "slot ", sequence.slot, ": expected block tables of at most ", most,
               " entries, found ", sequence.global_blocks.size(), " and ",
               sequence.window_blocks.size());
  }
  const std::int64_t end = static_cast<std::int64_t>(sequence.first_position) + sequence.num_tokens;
  const std::int64_t last = (end - 1) / kKvBlockTokens;
  if (use.global) {
    TANDEM_RETURN_IF_ERROR(
        CheckBlocks(step, sequence, sequence.global_blocks, 0, last, kv.global_blocks, "global"));
  }
  if (!use.window) return absl::OkStatus();
  const std::int64_t seen = std::max<std::int64_t>(
      0, static_cast<std::int64_t>(sequence.first_position) - config.sliding_window + 1);
  return CheckBlocks(step, sequence, sequence.window_blocks, seen / kKvBlockTokens, last,
                     kv.window_blocks, "window");
}

absl::Status CheckSequence(const StepLimits& limits, const Step& step, std::size_t index,
                           std::int64_t next) {
  const StepSequence& sequence = step.sequences[index];
  if (sequence.slot < 0 || sequence.slot >= limits.max_sequences) {
    return Bad(step, "expected slots in [0, ", limits.max_sequences, "), found ", sequence.slot);
  }
  for (std::size_t i = 0; i < index; ++i) {
    if (step.sequences[i].slot == sequence.slot)
      return Bad(step, "slot ", sequence.slot, " stands there twice");
  }
  if (sequence.first_token != next || sequence.num_tokens < 1) {
    return Bad(step, "slot ", sequence.slot, ": expected at least one token from token ", next,
               " on, found ", sequence.num_tokens, " from ", sequence.first_token);
  }
  const std::int64_t longest =
      static_cast<std::int64_t>(limits.max_blocks_per_sequence) * kKvBlockTokens;
  if (sequence.first_position < 0 || sequence.first_position > longest - sequence.num_tokens) {
    return Bad(step, "slot ", sequence.slot, ": expected positions in [0, ", longest, "), found ",
               sequence.num_tokens, " from ", sequence.first_position);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateStep(const ModelConfig& config, const StageSpec& spec,
                          const StepLimits& limits, const KvCacheSpec* kv, const Step& step) {
  TANDEM_RETURN_IF_ERROR(CheckCounts(limits, step));
  // A stage that does not embed may not know the ids: another worker samples them.
  for (std::size_t i = 0; spec.embed && i < step.tokens.size(); ++i) {
    if (step.tokens[i] < 0 || step.tokens[i] >= config.vocab_size) {
      return Bad(step, "expected token ids in [0, ", config.vocab_size, "), found ", step.tokens[i],
                 " at ", i);
    }
  }
  const KvUse use = KvUseOf(config, spec);
  if (spec.HasAttention() && kv == nullptr)
    return Bad(step, "the stage has attention but no KV cache");
  std::int64_t next = 0;
  for (std::size_t i = 0; i < step.sequences.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(CheckSequence(limits, step, i, next));
    next += step.sequences[i].num_tokens;
    if (spec.HasAttention()) {
      TANDEM_RETURN_IF_ERROR(CheckTables(config, limits, *kv, use, step, step.sequences[i]));
    }
  }
  if (next != static_cast<std::int64_t>(step.tokens.size())) {
    return Bad(step, "expected sequences that cover ", step.tokens.size(), " tokens, found ", next);
  }
  return absl::OkStatus();
}

}  // namespace tandem
