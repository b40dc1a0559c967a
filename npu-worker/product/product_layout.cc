#include "npu-worker/product/product_layout.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem::npu {
namespace {

constexpr std::int64_t kOctets = kTileColumns / kOctet;

// Two's complement of column `column` of a group of int4 weights.
std::uint8_t Nibble(const std::uint8_t* group, std::int64_t column) {
  const std::uint8_t byte = group[column % 16];
  return static_cast<std::uint8_t>((column < 16 ? byte & 15 : byte >> 4) ^ 8);
}

// Quants [first_column, first_column + 8) of one row, to the place of that row in its octet.
void PackOctet(bool int4, const std::uint8_t* row, std::int64_t first_column, std::uint8_t* out) {
  if (!int4) {
    std::memcpy(out, row + first_column, kOctet);
    return;
  }
  const std::uint8_t* group = row + first_column / kGroup * 16;
  for (std::int64_t b = 0; b < 4; ++b) {
    const std::int64_t column = first_column % kGroup + 2 * b;
    out[b] = static_cast<std::uint8_t>(Nibble(group, column) | Nibble(group, column + 1) << 4);
  }
}

// The chunk of 64 rows from `first_row` and 128 columns from `first_column`.
void PackWeightChunk(const ProductLayout& layout, const std::uint8_t* values,
                     const std::uint16_t* scales, std::int64_t first_row, std::int64_t first_column,
                     std::uint8_t* out) {
  const ProductShape& shape = layout.shape();
  const std::int64_t rows_at_once = layout.array().instruction_rows;
  const std::int64_t octet_bytes = shape.int4 ? 4 : 8;
  auto* out_scales = reinterpret_cast<float*>(out + WeightQuantBytes(shape.int4));
  for (std::int64_t r = 0; r < kTileRows && first_row + r < shape.rows; ++r) {
    const std::int64_t row = first_row + r;
    const std::uint8_t* from = values + row * (shape.int4 ? shape.columns / 2 : shape.columns);
    for (std::int64_t o = 0; o < kOctets && first_column + o * kOctet < shape.columns; ++o) {
      const std::int64_t place = (r / rows_at_once * kOctets + o) * rows_at_once + r % rows_at_once;
      PackOctet(shape.int4, from, first_column + o * kOctet, out + place * octet_bytes);
    }
    for (std::int64_t g = 0; g < kTileGroups && first_column + g * kGroup < shape.columns; ++g) {
      out_scales[g * kTileRows + r] =
          HalfToFloat(scales[row * (shape.columns / kGroup) + first_column / kGroup + g]);
    }
  }
}

void PackActivationChunk(const ProductShape& shape, std::int64_t tokens,
                         const QuantizedActivations& x, std::int64_t first_token,
                         std::int64_t first_column, std::uint8_t* out) {
  auto* out_scales = reinterpret_cast<float*>(out + kActivationQuantBytes);
  const std::int64_t columns = std::min<std::int64_t>(kTileColumns, shape.columns - first_column);
  for (std::int64_t t = 0; t < kTileTokens && first_token + t < tokens; ++t) {
    const std::int8_t* quants = x.quants + (first_token + t) * x.quant_stride + first_column;
    std::uint8_t* block = out + t / kOctet * (kOctet * kTileColumns) + t % kOctet;
    for (std::int64_t c = 0; c < columns; ++c) {
      block[c * kOctet] = static_cast<std::uint8_t>(quants[c]);
    }
    const float* scales = x.scales + (first_token + t) * x.scale_stride + first_column / kGroup;
    for (std::int64_t g = 0; g < columns / kGroup; ++g) out_scales[g * kTileTokens + t] = scales[g];
  }
}

}  // namespace

absl::StatusOr<ProductLayout> ProductLayout::Make(const ArrayShape& array,
                                                  const ProductShape& shape) {
  if (shape.rows <= 0 || shape.tokens <= 0 || shape.columns <= 0 || shape.columns % kGroup != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("product: expected rows, tokens and columns of 1 and more and columns a "
                     "multiple of 32, found (",
                     shape.rows, ", ", shape.tokens, ", ", shape.columns, ")"));
  }
  ProductLayout layout;
  layout.array_ = array;
  layout.shape_ = shape;
  const auto blocks = [](std::int64_t n, std::int64_t of) {
    return CeilDiv(static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(of));
  };
  const std::uint64_t row_blocks = blocks(shape.rows, array.rows * kTileRows);
  const std::uint64_t token_blocks = blocks(shape.tokens, array.columns * kTileTokens);
  const std::uint64_t chunks = blocks(shape.columns, kTileColumns);
  constexpr std::uint64_t kMost = 1 << 16;
  if (row_blocks > kMostRowBlocks || token_blocks > kMost || chunks > kMost) {
    return absl::InvalidArgumentError(absl::StrCat(
        "product: expected at most ", kMostRowBlocks * array.rows * kTileRows, " rows, ",
        kMost * array.columns * kTileTokens, " tokens and ", kMost * kTileColumns,
        " columns, found (", shape.rows, ", ", shape.tokens, ", ", shape.columns, ")"));
  }
  layout.row_blocks_ = static_cast<std::uint32_t>(row_blocks);
  layout.token_blocks_ = static_cast<std::uint32_t>(token_blocks);
  layout.chunks_ = static_cast<std::uint32_t>(chunks);
  return layout;
}

void PackWeights(const ProductLayout& layout, const std::uint8_t* values,
                 const std::uint16_t* scales, std::span<std::byte> out) {
  TANDEM_CHECK(out.size() == layout.weight_bytes());
  std::memset(out.data(), 0, out.size());
  auto* to = reinterpret_cast<std::uint8_t*>(out.data());
  for (std::int64_t core_row = 0; core_row < layout.array().rows; ++core_row) {
    for (std::int64_t block = 0; block < layout.row_blocks(); ++block) {
      const std::int64_t first_row = (block * layout.array().rows + core_row) * kTileRows;
      for (std::int64_t chunk = 0; chunk < layout.chunks(); ++chunk) {
        PackWeightChunk(layout, values, scales, first_row, chunk * kTileColumns, to);
        to += WeightChunkBytes(layout.shape().int4);
      }
    }
  }
}

void PackActivations(const ProductLayout& layout, std::int64_t tokens,
                     const QuantizedActivations& x, std::span<std::byte> out) {
  TANDEM_CHECK(tokens <= layout.shape().tokens);
  TANDEM_CHECK(out.size() == layout.activation_bytes());
  std::memset(out.data(), 0, out.size());
  auto* to = reinterpret_cast<std::uint8_t*>(out.data());
  const std::int64_t tiles = std::int64_t{layout.token_blocks()} * layout.array().columns;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    for (std::int64_t chunk = 0; chunk < layout.chunks(); ++chunk) {
      PackActivationChunk(layout.shape(), tokens, x, tile * kTileTokens, chunk * kTileColumns, to);
      to += kActivationChunkBytes;
    }
  }
}

void UnpackOutput(const ProductLayout& layout, std::int64_t tokens,
                  std::span<const std::byte> packed, float* out, std::int64_t out_stride) {
  TANDEM_CHECK(tokens <= layout.shape().tokens);
  TANDEM_CHECK(packed.size() == layout.output_bytes());
  const ProductShape& shape = layout.shape();
  const std::int64_t row_tiles = std::int64_t{layout.row_blocks()} * layout.array().rows;
  const std::int64_t high = layout.array().instruction_rows;
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::int64_t t = token % kTileTokens;
    const auto* column = reinterpret_cast<const float*>(packed.data()) +
                         token / kTileTokens * row_tiles * (kTileRows * kTileTokens);
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      const std::int64_t r = row % kTileRows;
      const float* tile = column + row / kTileRows * (kTileRows * kTileTokens);
      const std::int64_t block = r / high * (kTileTokens / kOctet) + t / kOctet;
      out[token * out_stride + row] = tile[(block * high + r % high) * kOctet + t % kOctet];
    }
  }
}

}  // namespace tandem::npu
