#include "lib/device/validate.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/model/kv_layout.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

bool IsGlobal(const ModelConfig& config, std::int32_t layer) {
  return config.layer_is_global[static_cast<std::size_t>(layer)];
}

absl::Status BadStage(const StageSpec& spec, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("stage '", StageSpecName(spec), "': ", what));
}

// One of the three stages of StageSpec.
absl::Status CheckCuts(const StageSpec& spec) {
  const bool begins = spec.begin != AttentionCut::kNone;
  const bool ends = spec.end != AttentionCut::kNone;
  if (!begins && !ends) return absl::OkStatus();
  if (spec.first_half == spec.last_half || (begins && (spec.first_half % 2 == 1 || spec.embed)) ||
      (ends && (spec.last_half % 2 == 0 || spec.head))) {
    return BadStage(spec, "expected a cut within an attention half, found none there");
  }
  const bool alone = spec.begin == AttentionCut::kProjected &&
                     spec.end == AttentionCut::kAttended && spec.first_half + 1 == spec.last_half;
  const bool around = spec.begin != AttentionCut::kProjected &&
                      spec.end != AttentionCut::kAttended &&
                      (!begins || !ends || spec.first_half + 1 < spec.last_half);
  if (alone || around) return absl::OkStatus();
  return BadStage(spec,
                  "expected attention between its products alone, or what stands around it, found "
                  "a stage that is neither");
}

// What goes on with a residual in the context finds it there.
absl::Status CheckKept(const ProgramSpec& program, const StageSpec& spec) {
  if (spec.begin != AttentionCut::kAttended) return absl::OkStatus();
  for (const ProgramStage& other : program.stages) {
    if (other.spec.end == AttentionCut::kProjected && other.spec.last_half == spec.first_half + 1)
      return absl::OkStatus();
  }
  return BadStage(spec, absl::StrCat("expected a stage that ends behind the queries, keys and "
                                     "values of layer ",
                                     spec.first_half / 2, " in the same program, found none"));
}

absl::Status CheckSpec(const ModelConfig& config, const StageSpec& spec) {
  const std::int32_t halves = 2 * config.num_layers;
  if (spec.first_half < 0 || spec.last_half < spec.first_half || spec.last_half > halves) {
    return BadStage(spec, absl::StrCat("expected half layers within [0, ", halves, "), found [",
                                       spec.first_half, ", ", spec.last_half, ")"));
  }
  if (spec.embed && spec.first_half != 0) {
    return BadStage(
        spec, absl::StrCat("a stage that embeds starts at half layer 0, found ", spec.first_half));
  }
  if (spec.head && spec.last_half != halves) {
    return BadStage(spec, absl::StrCat("a stage with the head ends at half layer ", halves,
                                       ", found ", spec.last_half));
  }
  if (!spec.embed && !spec.head && spec.first_half == spec.last_half) {
    return BadStage(spec, "expected an embedding, half layers or a head, found none of them");
  }
  return CheckCuts(spec);
}

absl::Status CheckLimits(const ProgramSpec& program) {
  const StepLimits& limits = program.limits;
  if (limits.max_tokens < 1 || limits.max_sequences < 1 || limits.max_logit_rows < 0 ||
      limits.max_blocks_per_sequence < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "program: expected positive step limits, found max_tokens ", limits.max_tokens,
        ", max_sequences ", limits.max_sequences, ", max_logit_rows ", limits.max_logit_rows,
        ", max_blocks_per_sequence ", limits.max_blocks_per_sequence));
  }
  if (program.contexts < 1 || program.contexts > kMaxContexts) {
    return absl::InvalidArgumentError(absl::StrCat("program: expected 1 to ", kMaxContexts,
                                                   " contexts, found ", program.contexts));
  }
  if (program.stages.empty()) {
    return absl::InvalidArgumentError("program: expected one stage at least, found none");
  }
  return absl::OkStatus();
}

absl::Status CheckWeights(const StageSpec& spec, const ProgramSpec& program) {
  std::set<std::string> found;
  for (const auto& weights : program.weights) {
    if (weights == nullptr) return BadStage(spec, "a bound region of weights is null");
    found.insert(weights->manifest().name);
  }
  std::set<std::string> needed;
  if (spec.embed || spec.head) needed.insert(RegionName(WeightPart::kEmbedding, -1));
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    needed.insert(RegionName(half % 2 == 0 ? WeightPart::kAttention : WeightPart::kFfn, half / 2));
  }
  for (const std::string& name : needed) {
    if (!found.contains(name)) {
      return BadStage(spec, absl::StrCat("expected weights of region '", name, "', found none"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckKvCache(const ModelConfig& config, const StageSpec& spec, const KvCache* cache) {
  if (!spec.HasAttention()) return absl::OkStatus();
  if (cache == nullptr) return BadStage(spec, "expected a KV cache, found none");
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    if (half % 2 == 1 || !spec.Attends(half)) continue;
    const std::int32_t layer = half / 2;
    const auto& layers = cache->spec().layers;
    if (std::find(layers.begin(), layers.end(), layer) == layers.end()) {
      return BadStage(spec, absl::StrCat("expected layer ", layer, " in the KV cache, found none"));
    }
    const bool global = config.layer_is_global[static_cast<std::size_t>(layer)];
    if ((global ? cache->spec().global_blocks : cache->spec().window_blocks) < 1) {
      return BadStage(spec, absl::StrCat("the KV cache has no blocks for ",
                                         global ? "global" : "sliding-window", " layer ", layer));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResidual(std::int32_t columns, const StageSpec& spec, std::int32_t tokens,
                           const ResidualBuffer* buffer, bool wanted, absl::string_view which) {
  if (!wanted) {
    if (buffer == nullptr) return absl::OkStatus();
    return BadStage(spec, absl::StrCat("expected no ", which, " residual, found one"));
  }
  if (buffer == nullptr)
    return BadStage(spec, absl::StrCat("expected an ", which, " residual, found none"));
  const ResidualLayout& layout = buffer->layout();
  if (layout.columns < columns || layout.max_tokens < tokens || layout.slots < 1) {
    return BadStage(spec, absl::StrCat("expected an ", which, " residual of at least ", tokens,
                                       " tokens x ", columns, ", found ", layout.slots,
                                       " slots of ", layout.max_tokens, " x ", layout.columns));
  }
  return absl::OkStatus();
}

// Texts are built only when something is wrong: a valid step allocates nothing.
template <typename... Parts>
absl::Status Bad(const Step& step, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("step ", step.id, ": ", parts...));
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
  if (!step.inverse_temperatures.empty() &&
      step.inverse_temperatures.size() != step.logit_rows.size()) {
    return Bad(step, "expected as many temperatures as logit rows, ", rows, ", found ",
               step.inverse_temperatures.size());
  }
  for (const std::int32_t row : step.logit_rows) {
    if (row <= before || row >= tokens) {
      return Bad(step, "expected ascending logit rows in [0, ", tokens, "), found ", row, " after ",
                 before);
    }
    before = row;
  }
  return absl::OkStatus();
}

// The table has `most` entries at most, and those in [first, last] name physical blocks.
absl::Status CheckBlocks(const Step& step, const StepSequence& sequence,
                         std::span<const std::int32_t> table, std::size_t most, std::int64_t first,
                         std::int64_t last, std::int32_t blocks, absl::string_view group) {
  if (table.size() > most) {
    return Bad(step, "slot ", sequence.slot, ": expected at most ", most, " entries in the ", group,
               " block table, found ", table.size());
  }
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

absl::Status CheckTables(const StepRules& rules, const Step& step, const StepSequence& sequence) {
  const auto most = static_cast<std::size_t>(rules.limits.max_blocks_per_sequence);
  const auto last = static_cast<std::int64_t>(BlocksUsed(sequence)) - 1;
  if (rules.global_blocks > 0) {
    TANDEM_RETURN_IF_ERROR(CheckBlocks(step, sequence, sequence.global_blocks, most, 0, last,
                                       rules.global_blocks, "global"));
  }
  if (rules.window_blocks == 0) return absl::OkStatus();
  const std::int64_t seen = std::max<std::int64_t>(
      0, static_cast<std::int64_t>(sequence.first_position) - rules.sliding_window + 1);
  return CheckBlocks(step, sequence, sequence.window_blocks, most, seen / kKvBlockTokens, last,
                     rules.window_blocks, "window");
}

absl::Status CheckSequence(const StepRules& rules, const Step& step, std::size_t index,
                           std::int64_t next) {
  const StepLimits& limits = rules.limits;
  const StepSequence& sequence = step.sequences[index];
  if (sequence.slot < 0 || sequence.slot >= limits.max_sequences) {
    return Bad(step, "expected slots in [0, ", limits.max_sequences, "), found ", sequence.slot);
  }
  for (std::size_t i = 0; i < index; ++i) {
    if (step.sequences[i].slot == sequence.slot)
      return Bad(step, "slot ", sequence.slot, " appears twice");
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
  if (rules.bidirectional && sequence.first_position != 0) {
    return Bad(step, "slot ", sequence.slot,
               ": expected a whole sequence, whose tokens see each other in both directions, found "
               "one from position ",
               sequence.first_position);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateKvCacheSpec(const ModelConfig& config, const KvCacheSpec& spec) {
  std::int32_t before = -1;
  for (const std::int32_t layer : spec.layers) {
    if (layer <= before || layer >= config.num_layers) {
      return absl::InvalidArgumentError(absl::StrCat("KV cache: expected ascending layers in [0, ",
                                                     config.num_layers, "), found ", layer,
                                                     " after ", before));
    }
    before = layer;
    const bool global = IsGlobal(config, layer);
    const std::int32_t blocks = global ? spec.global_blocks : spec.window_blocks;
    if (blocks < 1) {
      return absl::InvalidArgumentError(absl::StrCat("KV cache: expected at least one block for ",
                                                     global ? "global" : "sliding-window",
                                                     " layer ", layer, ", found ", blocks));
    }
  }
  return absl::OkStatus();
}

std::uint64_t KvPlaneBytes(const ModelConfig& config, const KvCacheSpec& spec, std::int32_t layer) {
  const std::int32_t blocks = IsGlobal(config, layer) ? spec.global_blocks : spec.window_blocks;
  return static_cast<std::uint64_t>(blocks) *
         KvBlockBytes(config.num_kv_heads, config.head_dim, spec.type);
}

absl::Status ValidateCompile(const ModelConfig& config, const ProgramSpec& spec) {
  TANDEM_RETURN_IF_ERROR(CheckLimits(spec));
  for (const ProgramStage& stage : spec.stages) {
    TANDEM_RETURN_IF_ERROR(CheckSpec(config, stage.spec));
    TANDEM_RETURN_IF_ERROR(CheckWeights(stage.spec, spec));
    TANDEM_RETURN_IF_ERROR(CheckKvCache(config, stage.spec, spec.kv_cache));
    TANDEM_RETURN_IF_ERROR(CheckKept(spec, stage.spec));
    if (stage.max_tokens < 0 || stage.max_tokens > spec.limits.max_tokens) {
      return BadStage(stage.spec, absl::StrCat("expected a bound of 1 to ", spec.limits.max_tokens,
                                               " tokens, or 0 for none, found ", stage.max_tokens));
    }
    const std::int32_t tokens = MostTokens(stage, spec.limits);
    TANDEM_RETURN_IF_ERROR(CheckResidual(InputColumns(config, stage.spec), stage.spec, tokens,
                                         stage.input, !stage.spec.embed, "input"));
    TANDEM_RETURN_IF_ERROR(CheckResidual(OutputColumns(config, stage.spec), stage.spec, tokens,
                                         stage.output, !stage.spec.head, "output"));
  }
  return absl::OkStatus();
}

StepRules StepRulesOf(const ModelConfig& config, const ProgramSpec& spec) {
  StepRules rules;
  rules.limits = spec.limits;
  rules.vocab_size = config.vocab_size;
  rules.sliding_window = config.sliding_window;
  rules.bidirectional = config.bidirectional;
  for (const ProgramStage& stage : spec.stages) {
    rules.embeds = rules.embeds || stage.spec.embed;
    rules.head = rules.head || stage.spec.head;
    for (std::int32_t half = stage.spec.first_half; half < stage.spec.last_half; ++half) {
      if (half % 2 == 1 || !stage.spec.Attends(half)) continue;
      if (IsGlobal(config, half / 2)) {
        rules.global_blocks = spec.kv_cache->spec().global_blocks;
      } else {
        rules.window_blocks = spec.kv_cache->spec().window_blocks;
      }
    }
  }
  return rules;
}

absl::Status ValidateStep(const StepRules& rules, const Step& step) {
  TANDEM_RETURN_IF_ERROR(CheckCounts(rules.limits, step));
  for (std::size_t i = 0; rules.embeds && i < step.tokens.size(); ++i) {
    if (step.tokens[i] < 0 || step.tokens[i] >= rules.vocab_size) {
      return Bad(step, "expected token ids in [0, ", rules.vocab_size, "), found ", step.tokens[i],
                 " at ", i);
    }
  }
  std::int64_t next = 0;
  for (std::size_t i = 0; i < step.sequences.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(CheckSequence(rules, step, i, next));
    next += step.sequences[i].num_tokens;
    TANDEM_RETURN_IF_ERROR(CheckTables(rules, step, step.sequences[i]));
  }
  if (next != static_cast<std::int64_t>(step.tokens.size())) {
    return Bad(step, "expected sequences that cover ", step.tokens.size(), " tokens, found ", next);
  }
  return absl::OkStatus();
}

}  // namespace tandem
