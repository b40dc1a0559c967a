#include "lib/device/cpu/cpu_products.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// In rows: a tile of an int8 product, which is whole ones of a float product.
constexpr std::int64_t kBlockUnit = 16;
static_assert(kBlockUnit % kTileRows == 0);

std::int64_t PaddedCols(std::int64_t cols) {
  return static_cast<std::int64_t>(RoundUp(static_cast<std::uint64_t>(cols),
                                           static_cast<std::uint64_t>(kGroupSize * kChunkGroups)));
}

}  // namespace

absl::Status CpuScratch::Reserve(const CpuScratchSizes& wanted, int threads,
                                 CpuCounters* counters) {
  sizes = wanted;
  const auto floats = [&](CpuBuffer& buffer, std::int64_t width) {
    return buffer.Reserve(static_cast<std::size_t>(sizes.tokens * width) * sizeof(float), counters);
  };
  TANDEM_RETURN_IF_ERROR(floats(residual, sizes.hidden));
  TANDEM_RETURN_IF_ERROR(floats(normed, sizes.hidden));
  TANDEM_RETURN_IF_ERROR(floats(projected, sizes.hidden));
  TANDEM_RETURN_IF_ERROR(floats(queries, sizes.queries));
  TANDEM_RETURN_IF_ERROR(floats(keys, sizes.keys));
  TANDEM_RETURN_IF_ERROR(floats(values, sizes.keys));
  TANDEM_RETURN_IF_ERROR(floats(attended, sizes.queries));
  TANDEM_RETURN_IF_ERROR(floats(gate, sizes.ffn));
  TANDEM_RETURN_IF_ERROR(floats(up, sizes.ffn));
  TANDEM_RETURN_IF_ERROR(floats(rope, 2 * sizes.head_dim));
  const auto count = static_cast<std::size_t>(sizes.tokens * PaddedCols(sizes.quantized));
  for (Quants& of : quants) {
    for (CpuBuffer* bytes : {&of.plain, &of.split, &of.biased})
      TANDEM_RETURN_IF_ERROR(bytes->Reserve(count, counters));
    TANDEM_RETURN_IF_ERROR(of.scales.Reserve(count / kGroupSize * sizeof(float), counters));
    TANDEM_RETURN_IF_ERROR(of.sums.Reserve(count / kGroupSize * sizeof(std::int32_t), counters));
  }
  TANDEM_RETURN_IF_ERROR(int8_tiles.Reserve(
      static_cast<std::size_t>(threads * Int8ScratchBytes(PaddedCols(sizes.quantized))), counters));
  return tiles.Reserve(static_cast<std::size_t>(threads * kTileRows * sizes.tile) * sizeof(float),
                       counters);
}

std::uint64_t CpuScratch::bytes() const {
  std::uint64_t total = 0;
  for (const CpuBuffer* buffer : {&residual, &normed, &projected, &queries, &attended, &keys,
                                  &values, &gate, &up, &rope, &int8_tiles, &tiles}) {
    total += buffer->bytes();
  }
  for (const Quants& of : quants) {
    for (const CpuBuffer* buffer : {&of.plain, &of.split, &of.biased, &of.scales, &of.sums})
      total += buffer->bytes();
  }
  return total;
}

QuantizedRows CpuScratch::Quants::Rows(std::int64_t rows, std::int64_t cols) const {
  return {plain.as<std::int8_t>(), split.as<std::int8_t>(), scales.as<float>(),
          sums.as<std::int32_t>(), PaddedCols(cols),        rows,
          biased.as<std::int8_t>()};
}

void CpuProducts::Begin(ActivationType activations, const std::atomic<bool>* cancelled) {
  activations_ = activations;
  cancelled_ = cancelled;
  failed_ = false;
  result_ = absl::OkStatus();
}

void CpuProducts::Note(absl::Status status) {
  if (status.ok() || failed_) return;
  failed_ = true;
  result_ = std::move(status);
}

void CpuProducts::SetInput(const FloatRows& x, std::int64_t cols) {
  input_ = x;
  if (activations_ == ActivationType::kFloat32) return;
  quantized_ = scratch_->quants[quants_].Rows(x.rows, cols);
  ForEach(CpuPart::kQuantizing, x.rows, [&](std::int64_t row, int) {
    QuantizeActivations(x.values + row * x.stride, cols, row, quantized_);
  });
  if (unit_ != nullptr && !cancelled()) Note(unit_->SetInput(quantized_, cols));
}

void CpuProducts::Rows(const Output& output, std::int64_t first_row, std::int64_t last_row,
                       int worker) {
  const MatrixView& w = *output.weights;
  last_row = std::min(last_row, w.rows);
  if (first_row >= last_row) return;
  if (IsQuantized(w.format) && activations_ != ActivationType::kFloat32) {
    auto* tile = scratch_->int8_tiles.as<std::byte>() +
                 worker * Int8ScratchBytes(PaddedCols(scratch_->sizes.quantized));
    return Int8Product(w, first_row, last_row, quantized_, tile, output.out, w.rows);
  }
  float* tile = scratch_->tiles.as<float>() + worker * kTileRows * scratch_->sizes.tile;
  FloatProduct(w, first_row, last_row, input_, tile, output.out, w.rows);
}

// Blocks are small enough to share out evenly and large enough to be worth the hand-out; whole
// tiles, two of which are used together.
std::int64_t CpuProducts::BlockRows(std::int64_t rows) const {
  const std::int64_t even = rows / (8 * pool_->threads()) / (2 * kBlockUnit) * (2 * kBlockUnit);
  // With few tokens rows are read once: long runs come from memory faster.
  const std::int64_t most = input_.rows < kInt8TileTokens ? 64 * kBlockUnit : 8 * kBlockUnit;
  return std::clamp<std::int64_t>(even, kBlockUnit, most);
}

void CpuProducts::Run(std::span<const Output> outputs) {
  if (unit_ != nullptr) {
    const CpuPartTimer timer(times_, CpuPart::kProducts);
    if (!cancelled()) Note(unit_->Multiply(outputs));
    return;
  }
  std::int64_t rows = 0;
  for (const Output& output : outputs) rows += output.weights->rows;
  const std::int64_t block = BlockRows(rows);
  std::int64_t blocks = 0;
  for (const Output& output : outputs) blocks += (output.weights->rows + block - 1) / block;
  ForEach(CpuPart::kProducts, blocks, [&](std::int64_t index, int worker) {
    for (const Output& output : outputs) {
      const std::int64_t here = (output.weights->rows + block - 1) / block;
      if (index < here) return Rows(output, index * block, (index + 1) * block, worker);
      index -= here;
    }
  });
}

void CpuProducts::RunGated(const Output& gate, const Output& up) {
  const std::int64_t rows = gate.weights->rows;
  const FloatRows result = {gate.out, rows, input_.rows};
  if (unit_ != nullptr) {
    const Output both[] = {gate, up};
    Run(both);
    ForEach(CpuPart::kGeGlu, input_.rows,
            [&](std::int64_t t, int) { GeGluRow(gate.out + t * rows, up.out + t * rows, rows); });
    return SetInput(result, rows);
  }
  // While these products read their input, the next one's is written.
  const bool quantizes = activations_ != ActivationType::kFloat32 && rows % kGroupSize == 0;
  const QuantizedRows next = scratch_->quants[1 - quants_].Rows(input_.rows, rows);
  const std::int64_t block = static_cast<std::int64_t>(RoundUp(
      static_cast<std::uint64_t>(BlockRows(2 * rows)), static_cast<std::uint64_t>(kGroupSize)));
  // What gates and quantises is part of the product's own pass: it finds its values in the cache.
  ForEach(CpuPart::kProducts, (rows + block - 1) / block, [&](std::int64_t index, int worker) {
    const std::int64_t first = index * block;
    const std::int64_t last = std::min(first + block, rows);
    Rows(gate, first, last, worker);
    Rows(up, first, last, worker);
    for (std::int64_t t = 0; t < input_.rows; ++t) {
      float* const row = gate.out + t * rows;
      GeGluRow(row + first, up.out + t * rows + first, last - first);
      if (quantizes) QuantizeColumns(row, first, last, rows, t, next);
    }
  });
  input_ = result;
  if (!quantizes) return;
  quantized_ = next;
  quants_ = 1 - quants_;
}

}  // namespace tandem
