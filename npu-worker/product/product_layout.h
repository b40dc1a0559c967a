#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "npu-worker/kernels/tile_shape.h"

namespace tandem::npu {

// A product out (tokens, rows) = x (tokens, columns) times the transpose of w (rows, columns).
struct ProductShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // a multiple of 32
  std::int64_t tokens = 0;
  bool int4 = false;  // the weights; int8 otherwise
};

// How the operands of one product lie in the buffers that the array's DMAs read and write in one
// piece each. Everything is padded with zeros to whole tiles: rows to array.rows * 64, tokens to
// array.columns * 64, columns to 128.
//   weights:     [row of cores][row block][chunk]        chunks of WeightChunkBytes
//   activations: [token block][column of cores][chunk]   chunks of kActivationChunkBytes
//   output:      [token block][column of cores][row block][row of cores]   kOutputTileBytes each
class ProductLayout {
 public:
  // INVALID_ARGUMENT: an empty shape, columns that are no multiple of 32, more rows than a DMA
  // queue can repeat the activations for (kMostRowBlocks).
  static absl::StatusOr<ProductLayout> Make(const ArrayShape& array, const ProductShape& shape);
  // The 8-bit repeat count of a queue entry.
  static constexpr std::int64_t kMostRowBlocks = 256;

  const ArrayShape& array() const { return array_; }
  const ProductShape& shape() const { return shape_; }
  std::uint32_t row_blocks() const { return row_blocks_; }
  std::uint32_t token_blocks() const { return token_blocks_; }
  std::uint32_t chunks() const { return chunks_; }  // of 128 columns

  // What one DMA task moves.
  std::uint64_t weight_stream_bytes() const {
    return std::uint64_t{row_blocks_} * chunks_ * WeightChunkBytes(shape_.int4);
  }
  std::uint64_t activation_stream_bytes() const {
    return std::uint64_t{chunks_} * kActivationChunkBytes;
  }
  std::uint64_t output_stream_bytes() const {
    return std::uint64_t{row_blocks_} * array_.rows * kOutputTileBytes;
  }
  std::uint64_t weight_bytes() const { return array_.rows * weight_stream_bytes(); }
  std::uint64_t activation_bytes() const {
    return token_blocks_ * array_.columns * activation_stream_bytes();
  }
  std::uint64_t output_bytes() const {
    return token_blocks_ * array_.columns * output_stream_bytes();
  }

 private:
  ArrayShape array_;
  ProductShape shape_;
  std::uint32_t row_blocks_ = 0;
  std::uint32_t token_blocks_ = 0;
  std::uint32_t chunks_ = 0;
};

// `values` and `scales`: a matrix as a region holds it (lib/weights/format.h). `out`:
// layout.weight_bytes(), aligned to 4.
void PackWeights(const ProductLayout& layout, const std::uint8_t* values,
                 const std::uint16_t* scales, std::span<std::byte> out);

// Products of fewer tokens than the layout's use the same buffers: `tokens` says how many there
// are. Activations quantised in groups of 32 (lib/device/cpu/kernels.h, QuantizedRows::plain), rows
// the given strides apart. `out`: layout.activation_bytes(), aligned to 4.
struct QuantizedActivations {
  const std::int8_t* quants = nullptr;
  std::int64_t quant_stride = 0;
  const float* scales = nullptr;
  std::int64_t scale_stride = 0;
};
void PackActivations(const ProductLayout& layout, std::int64_t tokens,
                     const QuantizedActivations& x, std::span<std::byte> out);

// out[t * out_stride + r] from `packed`, layout.output_bytes().
void UnpackOutput(const ProductLayout& layout, std::int64_t tokens,
                  std::span<const std::byte> packed, float* out, std::int64_t out_stride);

}  // namespace tandem::npu
