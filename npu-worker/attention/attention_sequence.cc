#include "npu-worker/attention/attention_sequence.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "npu-worker/product/transaction.h"

namespace tandem::npu {
namespace {

constexpr std::uint32_t kChunksChannel = 0;
constexpr std::uint32_t kQueriesChannel = 1;
constexpr std::uint32_t kOutChannel = 0;
// Two blocks are under way at once; each uses descriptors of its own.
constexpr std::uint32_t kChunksDescriptor = 0;
constexpr std::uint32_t kQueriesDescriptor = 2;
constexpr std::uint32_t kOutDescriptor = 4;

// One block of tokens with one round of kv heads; `number` counts these.
void StartBlock(const AttentionLayout& layout, std::uint32_t number, const ChunkRange& chunks,
                TransactionWriter* writer) {
  const ArrayShape& array = layout.array();
  const std::uint32_t parity = number % 2;
  const std::uint32_t round = number / layout.token_blocks();
  for (std::uint32_t column = 0; column < array.columns; ++column) {
    const std::uint64_t tile = (std::uint64_t{number} * array.columns + column) * array.rows;
    writer->Start({.column = column,
                   .direction = Direction::kToMemory,
                   .channel = kOutChannel,
                   .descriptor = kOutDescriptor + parity,
                   .argument = kAttendedArgument,
                   .offset = tile * kAttentionOutBytes,
                   .bytes = std::uint64_t{array.rows} * kAttentionOutBytes,
                   .token = true});
    writer->Start({.column = column,
                   .direction = Direction::kFromMemory,
                   .channel = kQueriesChannel,
                   .descriptor = kQueriesDescriptor + parity,
                   .argument = kQueriesArgument,
                   .offset = tile * kQueryTileBytes,
                   .bytes = std::uint64_t{array.rows} * kQueryTileBytes});
    if (column >= array.rows || chunks.first == chunks.end) continue;
    const std::uint64_t head = std::uint64_t{round} * array.rows + column;
    writer->Start({.column = column,
                   .direction = Direction::kFromMemory,
                   .channel = kChunksChannel,
                   .descriptor = kChunksDescriptor + parity,
                   .argument = kKeysValuesArgument,
                   .offset = (head * layout.chunks() + chunks.first) * kKeyValueChunkBytes,
                   .bytes = std::uint64_t{chunks.end - chunks.first} * kKeyValueChunkBytes});
  }
}

}  // namespace

absl::StatusOr<std::vector<std::uint32_t>> AttentionInstructions(const AttentionLayout& layout,
                                                                 std::span<const KeyRange> ranges) {
  constexpr std::uint64_t kReach = std::uint64_t{1} << 32;
  if (layout.key_value_bytes() > kReach || layout.query_bytes() > kReach ||
      layout.output_bytes() > kReach) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention: expected buffers of at most 4 GiB, found ",
                     layout.key_value_bytes(), " bytes of keys and values, ", layout.query_bytes(),
                     " of queries, ", layout.output_bytes(), " of output: compute it in parts"));
  }
  TransactionWriter writer(layout.array().columns);
  const auto wait = [&] {
    for (std::uint32_t column = 0; column < layout.array().columns; ++column)
      writer.Wait(column, Direction::kToMemory, kOutChannel);
  };
  const std::uint32_t blocks = layout.kv_rounds() * layout.token_blocks();
  for (std::uint32_t number = 0; number < blocks; ++number) {
    const std::uint32_t token_block = number % layout.token_blocks();
    StartBlock(layout, number, ChunksOf(layout, ranges, token_block), &writer);
    // As with the product: the next block is queued before the wait for this one.
    if (number > 0) wait();
  }
  wait();
  return std::move(writer).Finish();
}

}  // namespace tandem::npu
