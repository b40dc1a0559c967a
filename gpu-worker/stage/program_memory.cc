#include "gpu-worker/stage/program_memory.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

#include "gpu-worker/stage/product.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using vulkan::Buffer;
using vulkan::Placement;

// Blocks of a row of logits are multiples of this.
constexpr std::uint64_t kLogitBlock = 16;
// Blocks of small vocabularies have so many: one that leaves lanes without any takes as long.
constexpr std::uint64_t kLeastLogitBlock = 256;

static_assert(kernels::kBlockTokens == kKvBlockTokens);

// What the device writes (the active header) and what the host writes lie in lines of their own.
constexpr std::uint64_t kLine = 64;

constexpr std::uint64_t kHeaderBytes = sizeof(kernels::StepHeader);

absl::Status CheckRange(const vulkan::LogicalDevice& device, std::string_view what,
                        std::uint64_t bytes) {
  const std::uint64_t most = device.physical().limits.maxStorageBufferRange;
  if (bytes <= most) return absl::OkStatus();
  return absl::UnimplementedError(Cat(what, ": ", bytes, " bytes, the device binds at most ", most,
                                      " at once; fewer tokens a step would fit"));
}

// Allocates so many floats, unless there are none.
absl::Status Make(const vulkan::LogicalDevice& device, std::string_view what, std::uint64_t floats,
                  Placement placement, Buffer* buffer) {
  if (floats == 0) return absl::OkStatus();
  const std::uint64_t bytes = floats * sizeof(float);
  TANDEM_RETURN_IF_ERROR(CheckRange(device, what, bytes));
  TANDEM_ASSIGN_OR_RETURN(*buffer, Buffer::Create(device, bytes, placement, what));
  return absl::OkStatus();
}

// Made in double; the kernels multiply with a float32 position, as the reference does.
absl::Status MakeFrequencies(const vulkan::LogicalDevice& device, std::uint64_t pairs,
                             double head_dim, double theta, double factor, Buffer* buffer) {
  if (pairs == 0) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(Make(device, "RoPE frequencies", pairs, Placement::kUpload, buffer));
  auto* const to = reinterpret_cast<float*>(buffer->data());
  for (std::uint64_t i = 0; i < pairs; ++i) {
    to[i] = static_cast<float>(std::pow(theta, -2.0 * static_cast<double>(i) / head_dim) / factor);
  }
  return absl::OkStatus();
}

}  // namespace

StepBufferLayout LayOutStepBuffer(const StepRules& rules, std::int32_t contexts) {
  StepBufferLayout layout;
  kernels::StepHeader& header = layout.header;
  const auto first = static_cast<std::uint32_t>((kLine - kHeaderBytes) / sizeof(std::uint32_t));
  static_assert(kHeaderBytes <= kLine && kHeaderBytes % sizeof(std::uint32_t) == 0);
  std::uint32_t words = first;
  const auto take = [&words](std::uint64_t count) {
    const std::uint32_t at = words;
    words += static_cast<std::uint32_t>(count);
    return at;
  };
  const StepLimits& limits = rules.limits;
  const auto tokens = static_cast<std::uint64_t>(limits.max_tokens);
  header.blocks_per_table = static_cast<std::uint32_t>(limits.max_blocks_per_sequence);
  const std::uint64_t tables =
      std::uint64_t{header.blocks_per_table} * static_cast<std::uint64_t>(limits.max_sequences);
  header.token_ids_at = take(tokens);
  header.positions_at = take(tokens);
  header.sequences_at = take(tokens);
  header.tiles_at = take(2 * MostTiles(static_cast<std::uint32_t>(limits.max_tokens)));
  header.tiled_at = take(tokens);
  header.last_positions_at = take(static_cast<std::uint64_t>(limits.max_sequences));
  header.logit_rows_at = take(static_cast<std::uint64_t>(limits.max_logit_rows));
  header.inverse_temperatures_at = take(static_cast<std::uint64_t>(limits.max_logit_rows));
  layout.global_tables = rules.global_blocks > 0;
  layout.window_tables = rules.window_blocks > 0;
  header.global_blocks_at = take(layout.global_tables ? tables : 0);
  header.window_blocks_at = take(layout.window_tables ? tables : 0);
  layout.context_words = words - first;
  layout.ring_offset = RoundUp(kLine + std::uint64_t{layout.context_words} * sizeof(std::uint32_t) *
                                           static_cast<std::uint64_t>(contexts),
                               kLine);
  layout.bytes = layout.ring_offset + kLine * static_cast<std::uint64_t>(contexts);
  return layout;
}

absl::StatusOr<StepBuffer> StepBuffer::Create(const vulkan::LogicalDevice& device,
                                              const StepRules& rules, std::int32_t contexts) {
  StepBuffer step_buffer;
  step_buffer.layout_ = LayOutStepBuffer(rules, contexts);
  step_buffer.counts_.resize(static_cast<std::size_t>(contexts));
  constexpr std::string_view kWhat = "step parameters";
  TANDEM_RETURN_IF_ERROR(CheckRange(device, kWhat, step_buffer.layout_.bytes));
  TANDEM_ASSIGN_OR_RETURN(
      step_buffer.buffer_,
      vulkan::Buffer::Create(device, step_buffer.layout_.bytes, vulkan::Placement::kUpload, kWhat));
  return step_buffer;
}

vulkan::BufferSlice StepBuffer::active_header() const {
  return {buffer_.handle(), 0, kHeaderBytes};
}

vulkan::BufferSlice StepBuffer::header(std::size_t entry) const {
  return {buffer_.handle(), layout_.ring_offset + kLine * entry, kHeaderBytes};
}

void StepBuffer::WriteContext(std::int32_t context, const Step& step) {
  counts_[static_cast<std::size_t>(context)] = {static_cast<std::uint32_t>(step.tokens.size()),
                                                static_cast<std::uint32_t>(step.logit_rows.size()),
                                                0};
  // Memory that may be write-combined: written in order, never read.
  const kernels::StepHeader& at = layout_.header;
  auto* const words = reinterpret_cast<std::int32_t*>(buffer_.data() + kHeaderBytes) +
                      std::size_t{layout_.context_words} * static_cast<std::size_t>(context);
  const auto put = [words](std::uint32_t to, std::span<const std::int32_t> from) {
    if (!from.empty()) std::memcpy(words + to, from.data(), from.size_bytes());
  };
  put(at.token_ids_at, step.tokens);
  put(at.logit_rows_at, step.logit_rows);
  for (std::size_t row = 0; row < step.logit_rows.size(); ++row) {
    words[at.inverse_temperatures_at + row] = std::bit_cast<std::int32_t>(
        step.inverse_temperatures.empty() ? 1.0f : step.inverse_temperatures[row]);
  }
  std::uint32_t index = 0;
  std::uint32_t tiles = 0;
  for (const StepSequence& sequence : step.sequences) {
    const bool tiled = sequence.num_tokens >= static_cast<std::int32_t>(kernels::kMinTiledTokens);
    for (std::int32_t i = 0; i < sequence.num_tokens; ++i) {
      const auto token = static_cast<std::uint32_t>(sequence.first_token + i);
      words[at.positions_at + token] = sequence.first_position + i;
      words[at.sequences_at + token] = static_cast<std::int32_t>(index);
      words[at.tiled_at + token] = tiled ? 1 : 0;
    }
    constexpr auto kTile = static_cast<std::int32_t>(kernels::kTileTokens);
    for (std::int32_t i = 0; tiled && i < sequence.num_tokens; i += kTile) {
      const std::int32_t tile[] = {sequence.first_token + i,
                                   std::min(kTile, sequence.num_tokens - i)};
      put(at.tiles_at + 2 * tiles++, tile);
    }
    // What stands behind the last position is never read.
    const std::size_t used = BlocksUsed(sequence);
    const std::uint32_t table = index * at.blocks_per_table;
    words[at.last_positions_at + index] = sequence.first_position + sequence.num_tokens - 1;
    if (layout_.global_tables) {
      put(at.global_blocks_at + table, sequence.global_blocks.first(used));
    }
    if (layout_.window_tables) {
      put(at.window_blocks_at + table, sequence.window_blocks.first(used));
    }
    ++index;
  }
  counts_[static_cast<std::size_t>(context)].tiles = tiles;
}

kernels::StepHeader StepBuffer::HeaderOf(std::int32_t context, std::uint32_t input_base,
                                         std::uint32_t output_base) const {
  kernels::StepHeader header = layout_.header;
  const std::uint32_t shift = layout_.context_words * static_cast<std::uint32_t>(context);
  for (std::uint32_t* at :
       {&header.token_ids_at, &header.positions_at, &header.sequences_at, &header.logit_rows_at,
        &header.tiles_at, &header.tiled_at, &header.last_positions_at,
        &header.inverse_temperatures_at, &header.global_blocks_at, &header.window_blocks_at}) {
    *at += shift;
  }
  header.tokens = counts_[static_cast<std::size_t>(context)].tokens;
  header.logit_rows = counts_[static_cast<std::size_t>(context)].logit_rows;
  header.tiles = counts_[static_cast<std::size_t>(context)].tiles;
  header.input_base = input_base;
  header.output_base = output_base;
  return header;
}

void StepBuffer::WriteHeader(std::size_t entry, std::int32_t context, std::uint32_t input_base,
                             std::uint32_t output_base) {
  const kernels::StepHeader header = HeaderOf(context, input_base, output_base);
  std::memcpy(buffer_.data() + layout_.ring_offset + kLine * entry, &header, kHeaderBytes);
}

void StepBuffer::WriteActiveHeader(std::int32_t context, std::uint32_t input_base,
                                   std::uint32_t output_base) {
  const kernels::StepHeader header = HeaderOf(context, input_base, output_base);
  std::memcpy(buffer_.data(), &header, kHeaderBytes);
}

namespace {

std::uint64_t ChainReportWords(const ProgramMemorySizes& sizes) {
  return sizes.decode.chain_words == 0 ? 0 : 1;
}

}  // namespace

std::uint64_t ProgramMemorySizes::bytes() const {
  const std::uint64_t floats =
      residual + other_residual + normed + branch + qkv + attended + gate_up + activated +
      head_normed + contexts * (2 * logits + found + hidden_states) + of_blocks + 2 * frequencies +
      decode.split_floats + decode.counters + decode.chain_words + ChainReportWords(*this);
  return floats * sizeof(float) + step.bytes;
}

std::uint32_t RowsOf(const ProgramStage& stage, const StepLimits& limits) {
  return std::bit_ceil(static_cast<std::uint32_t>(MostTokens(stage, limits)));
}

ProgramMemorySizes SizeProgramMemory(const ModelConfig& config,
                                     std::span<const ProgramStage> stages, const StepRules& rules,
                                     std::int32_t contexts, bool parts, const DecodeRoom& decode) {
  ProgramMemorySizes sizes;
  sizes.decode = decode;
  sizes.contexts = static_cast<std::uint64_t>(contexts);
  sizes.step = LayOutStepBuffer(rules, contexts);
  const auto rows_of = [](std::uint32_t rows, std::int32_t columns) {
    return std::uint64_t{rows} * static_cast<std::uint64_t>(columns);
  };
  // The stages share the buffers.
  const auto need = [&](std::uint64_t* size, std::uint32_t rows, std::int32_t columns) {
    *size = std::max(*size, rows_of(rows, columns));
  };
  for (const ProgramStage& bound : stages) {
    const StageSpec& stage = bound.spec;
    const std::uint32_t tokens = RowsOf(bound, rules.limits);
    const std::uint32_t activation_rows = std::max(tokens, kMinActivationRows);
    const auto part_rows = static_cast<std::uint32_t>(parts ? MaxPartRows(tokens) : tokens);
    const bool halves = stage.first_half < stage.last_half;
    // One part alone reads and writes the residuals that are bound.
    const std::int32_t pieces =
        (stage.embed ? 1 : 0) + stage.last_half - stage.first_half + (stage.head ? 1 : 0);
    if (pieces > 1) {
      need(&sizes.residual, tokens, config.hidden_size);
      sizes.other_residual = rows_of(1, config.hidden_size);
    }
    if (halves && stage.begin != AttentionCut::kProjected) {
      need(&sizes.normed, activation_rows, config.hidden_size);
      need(&sizes.branch, part_rows, config.hidden_size);
    }
    if (stage.HasAttention()) {
      const std::int32_t query = config.num_heads * config.head_dim;
      const std::int32_t key = config.num_kv_heads * config.head_dim;
      need(&sizes.qkv, part_rows, query + 2 * key);
      need(&sizes.attended, activation_rows, query);
      sizes.frequencies = static_cast<std::uint64_t>(config.head_dim / 2);
    }
    if (stage.HasFeedForward()) {
      need(&sizes.gate_up, tokens, 2 * config.ffn_size);
      need(&sizes.activated, activation_rows, config.ffn_size);
    }
    if (stage.head) need(&sizes.hidden_states, tokens, config.hidden_size);
    if (stage.head && rules.limits.max_logit_rows > 0) {
      sizes.logit_rows = std::bit_ceil(static_cast<std::uint32_t>(rules.limits.max_logit_rows));
      sizes.head_normed =
          rows_of(std::max(sizes.logit_rows, kMinActivationRows), config.hidden_size);
      sizes.logits = rows_of(sizes.logit_rows, config.vocab_size);
      const auto vocab = static_cast<std::uint64_t>(config.vocab_size);
      sizes.logit_block = static_cast<std::uint32_t>(std::max(
          kLeastLogitBlock, RoundUp(CeilDiv(vocab, kernels::kMaxLogitBlocks), kLogitBlock)));
      sizes.logit_blocks = static_cast<std::uint32_t>(CeilDiv(vocab, sizes.logit_block));
      sizes.of_blocks =
          std::uint64_t{sizes.logit_rows} * sizes.logit_blocks * kernels::kLogitBlockFloats;
      sizes.found = std::uint64_t{sizes.logit_rows} * kFoundFloats;
    }
  }
  return sizes;
}

absl::StatusOr<ProgramMemory> ProgramMemory::Create(const vulkan::LogicalDevice& device,
                                                    const ModelConfig& config,
                                                    const ProgramSpec& spec, const StepRules& rules,
                                                    bool parts, const DecodeRoom& decode) {
  ProgramMemory memory;
  memory.sizes = SizeProgramMemory(config, spec.stages, rules, spec.contexts, parts, decode);
  const ProgramMemorySizes& sizes = memory.sizes;
  TANDEM_ASSIGN_OR_RETURN(memory.step, StepBuffer::Create(device, rules, spec.contexts));
  const struct {
    std::string_view what;
    std::uint64_t floats;
    Buffer* buffer;
  } list[] = {{"residual", sizes.residual, &memory.residual},
              {"residual of one token", sizes.other_residual, &memory.other_residual},
              {"normed residual", sizes.normed, &memory.normed},
              {"branch", sizes.branch, &memory.branch},
              {"queries, keys and values", sizes.qkv, &memory.qkv},
              {"attention result", sizes.attended, &memory.attended},
              {"gate and up", sizes.gate_up, &memory.gate_up},
              {"activated gate", sizes.activated, &memory.activated},
              {"final normed rows", sizes.head_normed, &memory.head_normed},
              {"blocks of logits", sizes.of_blocks, &memory.of_blocks},
              {"splits of attention", sizes.decode.split_floats, &memory.splits},
              {"words of a chain", sizes.decode.chain_words, &memory.chain_words}};
  for (const auto& [what, floats, buffer] : list) {
    TANDEM_RETURN_IF_ERROR(Make(device, what, floats, Placement::kDevice, buffer));
  }
  TANDEM_RETURN_IF_ERROR(
      Make(device, "counters", sizes.decode.counters, Placement::kUpload, &memory.counters));
  std::memset(memory.counters.data(), 0, sizes.decode.counters * sizeof(std::uint32_t));
  TANDEM_RETURN_IF_ERROR(Make(device, "report of a chain", ChainReportWords(sizes),
                              Placement::kReadback, &memory.chain_report));
  if (memory.chain_report.data() != nullptr)
    std::memset(memory.chain_report.data(), 0, sizeof(std::uint32_t));
  const struct {
    std::string_view what;
    std::uint64_t floats;
    Placement placement;
    std::vector<Buffer>* buffers;
  } of_contexts[] = {
      {"logits", sizes.logits, Placement::kDevice, &memory.logits},
      {"logits", sizes.logits, Placement::kReadback, &memory.logits_read},
      {"candidates", sizes.found, Placement::kReadback, &memory.found},
      {"hidden states", sizes.hidden_states, Placement::kReadback, &memory.hidden_states}};
  for (const auto& [what, floats, placement, buffers] : of_contexts) {
    buffers->resize(static_cast<std::size_t>(spec.contexts));
    for (Buffer& buffer : *buffers)
      TANDEM_RETURN_IF_ERROR(Make(device, what, floats, placement, &buffer));
  }
  TANDEM_RETURN_IF_ERROR(MakeFrequencies(device, sizes.frequencies, config.head_dim,
                                         config.rope_theta_global, config.rope_factor_global,
                                         &memory.global_frequencies));
  TANDEM_RETURN_IF_ERROR(MakeFrequencies(device, sizes.frequencies, config.head_dim,
                                         config.rope_theta_local, 1.0, &memory.window_frequencies));
  return memory;
}

}  // namespace tandem
