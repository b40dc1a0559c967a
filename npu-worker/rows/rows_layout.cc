#include "npu-worker/rows/rows_layout.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem::npu {
namespace {

absl::Status CheckShape(const RowsShape& shape) {
  constexpr std::int64_t kMost = 1 << 24;
  if (shape.rows <= 0 || shape.width <= 0 || shape.rows > kMost || shape.width > kMost) {
    return absl::InvalidArgumentError(absl::StrCat("rows: expected 1 to ", kMost,
                                                   " rows and columns, found (", shape.rows, ", ",
                                                   shape.width, ")"));
  }
  constexpr std::int64_t kWidest = kMostRowChunks * kRowChunk;
  if (shape.operation == RowOperation::kRmsNorm && shape.width > kWidest) {
    return absl::InvalidArgumentError(absl::StrCat("rows: expected at most ", kWidest,
                                                   " columns for RMSNorm, found ", shape.width));
  }
  if (shape.operation != RowOperation::kRotate) return absl::OkStatus();
  const std::int64_t head = 2 * shape.half;
  if (head <= 0 || head % 32 != 0 || kRowChunk % head != 0 || shape.width % head != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows: expected heads of 32 and more that divide ", kRowChunk, " and ",
                     shape.width, " columns, found heads of ", head));
  }
  return absl::OkStatus();
}

// Where chunk `piece` of `row` lies among the array's chunks: column of cores, then
// [turn][chunk][row of cores].
struct Place {
  std::uint64_t column;
  std::uint64_t index;
};
Place PlaceOf(const RowsLayout& layout, std::int64_t row, std::int64_t piece) {
  const ArrayShape& array = layout.array();
  const bool whole = layout.chunks() == layout.pieces();
  const auto item = static_cast<std::uint64_t>(whole ? row : row * layout.pieces() + piece);
  const std::uint64_t chunk = whole ? static_cast<std::uint64_t>(piece) : 0;
  const std::uint64_t core = item % (array.columns * array.rows);
  const std::uint64_t turn = item / (array.columns * array.rows);
  return {core / array.rows, (turn * layout.chunks() + chunk) * array.rows + core % array.rows};
}

// Columns of a row's chunk that are there.
std::int64_t Columns(const RowsLayout& layout, std::int64_t piece) {
  return std::min<std::int64_t>(kRowChunk, layout.shape().width - piece * kRowChunk);
}

}  // namespace

absl::StatusOr<RowsLayout> RowsLayout::Make(const ArrayShape& array, const RowsShape& shape) {
  TANDEM_RETURN_IF_ERROR(CheckShape(shape));
  RowsLayout layout;
  layout.array_ = array;
  layout.shape_ = shape;
  const std::uint64_t pieces = CeilDiv(static_cast<std::uint64_t>(shape.width), kRowChunk);
  layout.pieces_ = static_cast<std::uint32_t>(pieces);
  layout.chunks_ = shape.operation == RowOperation::kRmsNorm ? layout.pieces_ : 1;
  const std::uint64_t items = static_cast<std::uint64_t>(shape.rows) * pieces / layout.chunks_;
  const std::uint64_t turns = CeilDiv(items, std::uint64_t{array.columns} * array.rows);
  constexpr std::uint64_t kReach = std::uint64_t{1} << 32;
  if (turns * layout.chunks_ >= kReach / (array.columns * array.rows * kRowPairBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows: expected what fits in buffers of 4 GiB, found (", shape.rows, ", ",
                     shape.width, "): compute it in parts"));
  }
  layout.turns_ = static_cast<std::uint32_t>(turns);
  return layout;
}

void PackRows(const RowsLayout& layout, const float* x, std::int64_t stride, const float* operand,
              std::int64_t operand_stride, std::span<std::byte> out) {
  const RowsShape& shape = layout.shape();
  const ArrayShape& array = layout.array();
  TANDEM_CHECK(out.size() == layout.pair_bytes());
  std::memset(out.data(), 0, out.size());
  RowsHeader header = {};
  header.rows = static_cast<std::int32_t>(layout.turns());
  header.chunks = static_cast<std::int32_t>(layout.chunks());
  header.operation = shape.operation;
  header.half = static_cast<std::int32_t>(shape.half);
  header.inverse_n = 1.0f / static_cast<float>(shape.width);
  header.eps = shape.eps;
  header.scale = shape.scale;
  for (std::uint64_t core = 0; core < std::uint64_t{array.columns} * array.rows; ++core) {
    std::memcpy(out.data() + core / array.rows * layout.pair_stream_bytes() +
                    core % array.rows * kRowPairBytes,
                &header, sizeof(header));
  }
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    for (std::int64_t piece = 0; piece < layout.pieces(); ++piece) {
      const Place place = PlaceOf(layout, row, piece);
      const auto columns = static_cast<std::size_t>(Columns(layout, piece));
      std::byte* pair = out.data() + place.column * layout.pair_stream_bytes() +
                        (array.rows + place.index) * kRowPairBytes;
      std::memcpy(pair, x + row * stride + piece * kRowChunk, columns * sizeof(float));
      const bool rotate = shape.operation == RowOperation::kRotate;
      const float* with = operand + row * operand_stride + (rotate ? 0 : piece * kRowChunk);
      std::memcpy(pair + kRowChunkBytes, with,
                  (rotate ? static_cast<std::size_t>(2 * shape.half) : columns) * sizeof(float));
    }
  }
}

void UnpackRows(const RowsLayout& layout, std::span<const std::byte> packed, float* out,
                std::int64_t stride) {
  TANDEM_CHECK(packed.size() == layout.out_bytes());
  for (std::int64_t row = 0; row < layout.shape().rows; ++row) {
    for (std::int64_t piece = 0; piece < layout.pieces(); ++piece) {
      const Place place = PlaceOf(layout, row, piece);
      std::memcpy(
          out + row * stride + piece * kRowChunk,
          packed.data() + place.column * layout.out_stream_bytes() + place.index * kRowChunkBytes,
          static_cast<std::size_t>(Columns(layout, piece)) * sizeof(float));
    }
  }
}

}  // namespace tandem::npu
