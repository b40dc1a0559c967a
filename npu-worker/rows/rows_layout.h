#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "npu-worker/kernels/rows_shape.h"

namespace tandem::npu {

// Rows (rows, width) of float32 through one operation, each with what goes with it:
//   kRmsNorm: x / rms(x) * weights, `eps` as lib/device/cpu/kernels.h has it; weights (width)
//   kRotate:  heads of 2 * half turned and times `scale`; cosines (half), then sines (half)
//   kGeGlu:   gelu_tanh(x) * up; up (width)
struct RowsShape {
  RowOperation operation = RowOperation::kRmsNorm;
  std::int64_t rows = 0;
  std::int64_t width = 0;
  std::int64_t half = 0;
  float eps = 0;
  float scale = 1;
};

// How they are spread over the array: core by core in turn, a row of RMSNorm at a time and else a
// chunk. What lies in the buffers, padded with zeros:
//   pairs: [column of cores][header, then each chunk][row of cores]   kRowPairBytes each
//   out:   [column of cores][each chunk][row of cores]                kRowChunkBytes each
class RowsLayout {
 public:
  // INVALID_ARGUMENT: no rows, a width past 6 chunks for RMSNorm, heads that do not fill a chunk
  // evenly or are no multiple of 32, more than 2^32 bytes.
  static absl::StatusOr<RowsLayout> Make(const ArrayShape& array, const RowsShape& shape);

  const ArrayShape& array() const { return array_; }
  const RowsShape& shape() const { return shape_; }
  std::uint32_t pieces() const { return pieces_; }  // chunks of a row
  // Of what a core takes at a time, and how often it does.
  std::uint32_t chunks() const { return chunks_; }
  std::uint32_t turns() const { return turns_; }

  // What one DMA task moves.
  std::uint64_t pair_stream_bytes() const {
    return (1 + std::uint64_t{turns_} * chunks_) * array_.rows * kRowPairBytes;
  }
  std::uint64_t out_stream_bytes() const {
    return std::uint64_t{turns_} * chunks_ * array_.rows * kRowChunkBytes;
  }
  std::uint64_t pair_bytes() const { return array_.columns * pair_stream_bytes(); }
  std::uint64_t out_bytes() const { return array_.columns * out_stream_bytes(); }

 private:
  ArrayShape array_;
  RowsShape shape_;
  std::uint32_t pieces_ = 0;
  std::uint32_t chunks_ = 0;
  std::uint32_t turns_ = 0;
};

// `x` and what goes with it, rows the given strides apart; 0: the same with every row. `out`:
// layout.pair_bytes(), aligned to 4.
void PackRows(const RowsLayout& layout, const float* x, std::int64_t stride, const float* operand,
              std::int64_t operand_stride, std::span<std::byte> out);

// (rows, width), `stride` apart, from `packed`, layout.out_bytes().
void UnpackRows(const RowsLayout& layout, std::span<const std::byte> packed, float* out,
                std::int64_t stride);

}  // namespace tandem::npu
