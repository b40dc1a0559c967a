#include "npu-worker/product/product_sequence.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "npu-worker/product/transaction.h"

namespace tandem::npu {
namespace {

// Two token blocks are under way at once; each uses descriptors of its own.
constexpr std::uint32_t kWeightsDescriptor = 0;
constexpr std::uint32_t kActivationsDescriptor = 2;
constexpr std::uint32_t kOutputDescriptor = 4;

void StartTokenBlock(const ProductLayout& layout, std::uint32_t block, TransactionWriter* writer) {
  const ArrayShape& array = layout.array();
  const std::uint32_t parity = block % 2;
  for (std::uint32_t column = 0; column < array.columns; ++column) {
    const std::uint64_t tile = std::uint64_t{block} * array.columns + column;
    writer->Start({.column = column,
                   .direction = Direction::kToMemory,
                   .channel = kOutputChannel,
                   .descriptor = kOutputDescriptor + parity,
                   .argument = kOutputArgument,
                   .offset = tile * layout.output_stream_bytes(),
                   .bytes = layout.output_stream_bytes(),
                   .token = true});
    if (column < array.rows) {
      writer->Start({.column = column,
                     .direction = Direction::kFromMemory,
                     .channel = kWeightsChannel,
                     .descriptor = kWeightsDescriptor + parity,
                     .argument = kWeightsArgument,
                     .offset = column * layout.weight_stream_bytes(),
                     .bytes = layout.weight_stream_bytes()});
    }
    writer->Start({.column = column,
                   .direction = Direction::kFromMemory,
                   .channel = kActivationsChannel,
                   .descriptor = kActivationsDescriptor + parity,
                   .argument = kActivationsArgument,
                   .offset = tile * layout.activation_stream_bytes(),
                   .bytes = layout.activation_stream_bytes(),
                   .repeat = layout.row_blocks()});
  }
}

}  // namespace

absl::StatusOr<std::vector<std::uint32_t>> ProductInstructions(const ProductLayout& layout,
                                                               std::uint32_t parameter_address) {
  constexpr std::uint64_t kReach = std::uint64_t{1} << 32;
  if (layout.weight_bytes() > kReach || layout.activation_bytes() > kReach ||
      layout.output_bytes() > kReach) {
    return absl::InvalidArgumentError(
        absl::StrCat("product: expected buffers of at most 4 GiB, found ", layout.weight_bytes(),
                     " bytes of weights, ", layout.activation_bytes(), " of activations, ",
                     layout.output_bytes(), " of output: compute it in parts"));
  }
  const ArrayShape& array = layout.array();
  TransactionWriter writer(array.columns);
  for (std::uint32_t column = 0; column < array.columns; ++column) {
    for (std::uint32_t row = 0; row < array.rows; ++row) {
      writer.Write(TileAddress(column, kFirstCoreRow + row, parameter_address), layout.chunks());
    }
  }
  const auto wait = [&] {
    for (std::uint32_t column = 0; column < array.columns; ++column) {
      writer.Wait(column, Direction::kToMemory, kOutputChannel);
    }
  };
  for (std::uint32_t block = 0; block < layout.token_blocks(); ++block) {
    StartTokenBlock(layout, block, &writer);
    // The next block's transfers are queued before the wait for this one's, so that the cores do
    // not run dry; a block's descriptors are written anew only once its output has left.
    if (block > 0) wait();
  }
  wait();
  return std::move(writer).Finish();
}

}  // namespace tandem::npu
