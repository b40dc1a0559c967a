#include "gpu-worker/stage/step_buffer.h"

#include <cstddef>
#include <cstring>
#include <span>

#include "lib/base/status_macros.h"

namespace tandem {

static_assert(kernels::kBlockTokens == kKvBlockTokens);

absl::StatusOr<StepBuffer> StepBuffer::Create(const vulkan::LogicalDevice& device,
                                              const StepLimits& limits) {
  StepBuffer made;
  kernels::StepHeader& header = made.header_;
  std::uint32_t words = 0;
  const auto take = [&words](std::uint64_t count) {
    const std::uint32_t at = words;
    words += static_cast<std::uint32_t>(count);
    return at;
  };
  const auto tokens = static_cast<std::uint64_t>(limits.max_tokens);
  header.blocks_per_table = static_cast<std::uint32_t>(limits.max_blocks_per_sequence);
  const std::uint64_t tables =
      std::uint64_t{header.blocks_per_table} * static_cast<std::uint64_t>(limits.max_sequences);
  header.token_ids_at = take(tokens);
  header.positions_at = take(tokens);
  header.sequences_at = take(tokens);
  header.logit_rows_at = take(static_cast<std::uint64_t>(limits.max_logit_rows));
  header.global_blocks_at = take(tables);
  header.window_blocks_at = take(tables);
  TANDEM_ASSIGN_OR_RETURN(
      made.buffer_,
      vulkan::Buffer::Create(device, sizeof(kernels::StepHeader) + words * sizeof(std::uint32_t),
                             vulkan::Placement::kUpload, "step parameters"));
  return made;
}

void StepBuffer::Write(const Step& step, std::uint32_t input_base, std::uint32_t output_base) {
  header_.tokens = static_cast<std::uint32_t>(step.tokens.size());
  header_.logit_rows = static_cast<std::uint32_t>(step.logit_rows.size());
  header_.input_base = input_base;
  header_.output_base = output_base;
  std::memcpy(buffer_.data(), &header_, sizeof(header_));
  // Memory that may be write-combined: written in order, never read.
  auto* const words = reinterpret_cast<std::int32_t*>(buffer_.data() + sizeof(header_));
  const auto put = [words](std::uint32_t at, std::span<const std::int32_t> from) {
    if (!from.empty()) std::memcpy(words + at, from.data(), from.size_bytes());
  };
  put(header_.token_ids_at, step.tokens);
  put(header_.logit_rows_at, step.logit_rows);
  std::uint32_t index = 0;
  for (const StepSequence& sequence : step.sequences) {
    for (std::int32_t i = 0; i < sequence.num_tokens; ++i) {
      const auto token = static_cast<std::uint32_t>(sequence.first_token + i);
      words[header_.positions_at + token] = sequence.first_position + i;
      words[header_.sequences_at + token] = static_cast<std::int32_t>(index);
    }
    put(header_.global_blocks_at + index * header_.blocks_per_table, sequence.global_blocks);
    put(header_.window_blocks_at + index * header_.blocks_per_table, sequence.window_blocks);
    ++index;
  }
}

}  // namespace tandem
