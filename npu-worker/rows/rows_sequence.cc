#include "npu-worker/rows/rows_sequence.h"

#include <utility>

#include "npu-worker/product/transaction.h"

namespace tandem::npu {

std::vector<std::uint32_t> RowsInstructions(const RowsLayout& layout) {
  constexpr std::uint32_t kPairsDescriptor = 0, kOutDescriptor = 1, kChannel = 0;
  TransactionWriter writer(layout.array().columns);
  for (std::uint32_t column = 0; column < layout.array().columns; ++column) {
    writer.Start({.column = column,
                  .direction = Direction::kToMemory,
                  .channel = kChannel,
                  .descriptor = kOutDescriptor,
                  .argument = kRowsOutArgument,
                  .offset = column * layout.out_stream_bytes(),
                  .bytes = layout.out_stream_bytes(),
                  .token = true});
    writer.Start({.column = column,
                  .direction = Direction::kFromMemory,
                  .channel = kChannel,
                  .descriptor = kPairsDescriptor,
                  .argument = kRowPairsArgument,
                  .offset = column * layout.pair_stream_bytes(),
                  .bytes = layout.pair_stream_bytes()});
  }
  for (std::uint32_t column = 0; column < layout.array().columns; ++column)
    writer.Wait(column, Direction::kToMemory, kChannel);
  return std::move(writer).Finish();
}

}  // namespace tandem::npu
