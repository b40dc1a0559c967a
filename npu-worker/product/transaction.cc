#include "npu-worker/product/transaction.h"

#include <utility>

#include "lib/base/status_macros.h"

namespace tandem::npu {

TransactionWriter::TransactionWriter(std::uint32_t columns)
    : words_{kHeaderVersion, 1U << 8 | columns, 0, 0} {}

std::span<std::uint32_t> TransactionWriter::Append(std::uint32_t words) {
  const std::size_t first = words_.size();
  words_.resize(first + words);
  ++operations_;
  return {words_.data() + first, words};
}

void TransactionWriter::Write(std::uint32_t address, std::uint32_t value) {
  const std::span<std::uint32_t> op = Append(6);
  op[0] = static_cast<std::uint32_t>(Operation::kWrite);
  op[2] = address;
  op[4] = value;
  op[5] = 6 * 4;
}

void TransactionWriter::Start(const ShimTransfer& t) {
  TANDEM_CHECK(t.bytes % 4 == 0 && t.bytes / 4 <= 0xffffffffU && t.bytes > 0);
  TANDEM_CHECK(t.repeat >= 1 && t.repeat <= 256 && t.descriptor < kShimDescriptors);
  TANDEM_CHECK(t.offset <= 0xffffffffU);
  const std::uint32_t descriptor = TileAddress(t.column, 0, ShimDescriptor(t.descriptor));
  const std::span<std::uint32_t> block = Append(4 + kDescriptorWords);
  block[0] = static_cast<std::uint32_t>(Operation::kBlockWrite);
  block[2] = descriptor;
  block[3] = (4 + kDescriptorWords) * 4;
  // Length in words; the address comes with the patch; no strides: linear. Bursts of 256 bytes.
  block[4] = static_cast<std::uint32_t>(t.bytes / 4);
  block[4 + 4] = 2U << 30;
  // Valid.
  block[4 + 7] = 1U << 25;

  const std::span<std::uint32_t> patch = Append(12);
  patch[0] = static_cast<std::uint32_t>(Operation::kPatchAddress);
  patch[1] = 12 * 4;
  patch[6] = descriptor + 4;
  patch[8] = t.argument;
  patch[10] = static_cast<std::uint32_t>(t.offset);

  Write(TileAddress(t.column, 0, ShimQueue(t.direction, t.channel)),
        (t.token ? 1U << 31 : 0U) | (t.repeat - 1) << 16 | t.descriptor);
}

void TransactionWriter::Wait(std::uint32_t column, Direction direction, std::uint32_t channel) {
  const std::span<std::uint32_t> op = Append(4);
  op[0] = static_cast<std::uint32_t>(Operation::kWaitToken);
  op[1] = 4 * 4;
  op[2] = column << 16 | static_cast<std::uint32_t>(direction);
  // One column, one row.
  op[3] = channel << 24 | 1U << 16 | 1U << 8;
}

std::vector<std::uint32_t> TransactionWriter::Finish() && {
  words_[2] = operations_;
  words_[3] = static_cast<std::uint32_t>(words_.size() * 4);
  return std::move(words_);
}

}  // namespace tandem::npu
