#include "npu-worker/attention/attention_layout.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem::npu {
namespace {

// Where a query's dimension d lies among a tile's numbers; sums come out in the same order.
std::int64_t QueryPlace(std::int64_t query, std::int64_t d, std::int64_t head_dim) {
  const std::int64_t quad = query / kQuad;
  return (quad * (head_dim / kOctet) + d / kOctet) * kQuadLanes + query % kQuad * kOctet +
         d % kOctet;
}

// Visits each query of each tile that is there: tile, query in the tile, token, head.
template <typename Function>
void ForEachQuery(const AttentionLayout& layout, const Function& function) {
  const AttentionShape& shape = layout.shape();
  const ArrayShape& array = layout.array();
  const std::int64_t group = shape.heads / shape.kv_heads;
  const std::int64_t per_tile = layout.tokens_per_tile();
  for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    for (std::int64_t token = 0; token < shape.tokens; ++token) {
      const std::int64_t column_tile = token / per_tile;
      const std::int64_t round = kv_head / array.rows;
      const std::int64_t tile =
          (round * layout.token_blocks() * array.columns + column_tile) * array.rows +
          kv_head % array.rows;
      for (std::int64_t h = 0; h < group; ++h)
        function(tile, token % per_tile * group + h, token, kv_head * group + h);
    }
  }
}

}  // namespace

absl::StatusOr<AttentionLayout> AttentionLayout::Make(const ArrayShape& array,
                                                      const AttentionShape& shape) {
  constexpr std::int64_t kMost = 1 << 24;
  if (!AttentionTakes(shape.head_dim)) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention: expected heads of 128 or 256, found ", shape.head_dim));
  }
  const std::uint32_t rows = AttentionRows(static_cast<std::uint32_t>(shape.head_dim));
  if (shape.heads <= 0 || shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.heads / shape.kv_heads > rows || shape.heads > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention: expected heads a multiple of kv heads, at most ", rows,
                     " of them to one, found ", shape.heads, " and ", shape.kv_heads));
  }
  if (shape.tokens <= 0 || shape.keys <= 0 || shape.tokens > kMost || shape.keys > kMost) {
    return absl::InvalidArgumentError(absl::StrCat("attention: expected 1 to ", kMost,
                                                   " tokens and keys, found ", shape.tokens,
                                                   " and ", shape.keys));
  }
  AttentionLayout layout;
  layout.array_ = array;
  layout.shape_ = shape;
  layout.rows_ = rows;
  layout.group_ = static_cast<std::uint32_t>(shape.heads / shape.kv_heads);
  layout.tokens_per_tile_ = rows / layout.group_;
  const auto blocks = [](std::int64_t n, std::uint32_t of) {
    return static_cast<std::uint32_t>(CeilDiv(static_cast<std::uint64_t>(n), of));
  };
  layout.kv_rounds_ = blocks(shape.kv_heads, array.rows);
  layout.token_blocks_ = blocks(shape.tokens, layout.tokens_per_tile_ * array.columns);
  layout.chunks_ = blocks(shape.keys, rows);
  return layout;
}

ChunkRange ChunksOf(const AttentionLayout& layout, std::span<const KeyRange> ranges,
                    std::uint32_t token_block) {
  const std::size_t tokens = std::size_t{layout.tokens_per_tile()} * layout.array().columns;
  const std::size_t begin = token_block * tokens;
  std::int64_t first = layout.shape().keys, end = 0;
  for (std::size_t t = begin; t < std::min(begin + tokens, ranges.size()); ++t) {
    if (ranges[t].first >= ranges[t].end) continue;
    first = std::min<std::int64_t>(first, ranges[t].first);
    end = std::max<std::int64_t>(end, ranges[t].end);
  }
  if (first >= end) return {};
  return {static_cast<std::uint32_t>(first / layout.rows()),
          static_cast<std::uint32_t>((end - 1) / layout.rows() + 1)};
}

void PackQueries(const AttentionLayout& layout, std::span<const KeyRange> ranges,
                 const float* queries, std::int64_t stride, float scale, std::span<std::byte> out) {
  const AttentionShape& shape = layout.shape();
  TANDEM_CHECK(out.size() == layout.query_bytes());
  TANDEM_CHECK(ranges.size() == static_cast<std::size_t>(shape.tokens));
  std::memset(out.data(), 0, out.size());
  const std::uint64_t tiles_of_block = std::uint64_t{layout.array().columns} * layout.array().rows;
  for (std::uint64_t tile = 0; tile < layout.tiles(); ++tile) {
    const auto block = static_cast<std::uint32_t>(tile / tiles_of_block % layout.token_blocks());
    const ChunkRange chunks = ChunksOf(layout, ranges, block);
    auto* header = reinterpret_cast<std::int32_t*>(out.data() + tile * kQueryTileBytes);
    header[kHeaderChunks] = static_cast<std::int32_t>(chunks.end - chunks.first);
    header[kHeaderHeadDim] = static_cast<std::int32_t>(shape.head_dim);
    header[kHeaderFirstChunk] = static_cast<std::int32_t>(chunks.first);
  }
  ForEachQuery(layout, [&](std::int64_t tile, std::int64_t query, std::int64_t token,
                           std::int64_t head) {
    TANDEM_CHECK(ranges[token].first >= 0 && ranges[token].end <= shape.keys);
    auto* header = reinterpret_cast<std::int32_t*>(out.data() + tile * kQueryTileBytes);
    header[kAttentionHeaderWords + query] = ranges[token].first;
    header[kAttentionHeaderWords + kMostAttentionRows + query] = ranges[token].end;
    auto* numbers =
        reinterpret_cast<std::uint16_t*>(header + kAttentionHeaderWords + 2 * kMostAttentionRows);
    const float* row = queries + token * stride + head * shape.head_dim;
    for (std::int64_t d = 0; d < shape.head_dim; ++d) {
      numbers[QueryPlace(query, d, shape.head_dim)] = FloatToBf16(row[d] * (scale * kLog2E));
    }
  });
}

void PackKeysValues(const AttentionLayout& layout, const float* keys, const float* values,
                    std::int64_t stride, std::span<std::byte> out) {
  const AttentionShape& shape = layout.shape();
  TANDEM_CHECK(out.size() == layout.key_value_bytes());
  std::memset(out.data(), 0, out.size());
  const std::int64_t rows = layout.rows();
  const std::int64_t dimensions = shape.head_dim / kOctet;
  for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
    for (std::int64_t key = 0; key < shape.keys; ++key) {
      const std::int64_t chunk = head * layout.chunks() + key / rows;
      auto* numbers = reinterpret_cast<std::uint16_t*>(out.data() + chunk * kKeyValueChunkBytes);
      const std::int64_t k = key % rows;
      const std::int64_t from = key * stride + head * shape.head_dim;
      for (std::int64_t d = 0; d < shape.head_dim; ++d) {
        const std::int64_t key_square = k / kOctet * dimensions + d / kOctet;
        const std::int64_t value_square = d / kOctet * (rows / kOctet) + k / kOctet;
        numbers[(key_square * kOctet + d % kOctet) * kOctet + k % kOctet] =
            FloatToBf16(keys[from + d]);
        numbers[kAttentionValues + (value_square * kOctet + k % kOctet) * kOctet + d % kOctet] =
            FloatToBf16(values[from + d]);
      }
    }
  }
}

void UnpackAttention(const AttentionLayout& layout, std::span<const std::byte> packed, float* out,
                     std::int64_t stride) {
  const std::int64_t head_dim = layout.shape().head_dim;
  TANDEM_CHECK(packed.size() == layout.output_bytes());
  ForEachQuery(layout, [&](std::int64_t tile, std::int64_t query, std::int64_t token,
                           std::int64_t head) {
    const auto* sums = reinterpret_cast<const float*>(packed.data() + tile * kAttentionOutBytes);
    for (std::int64_t d = 0; d < head_dim; ++d)
      out[token * stride + head * head_dim + d] = sums[QueryPlace(query, d, head_dim)];
  });
}

}  // namespace tandem::npu
