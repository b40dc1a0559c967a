#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "npu-worker/kernels/attention_shape.h"

namespace tandem::npu {

// Attention of `tokens` of one sequence over its first `keys` keys and values.
struct AttentionShape {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // divides heads
  std::int64_t head_dim = 0;  // AttentionTakes(head_dim)
  std::int64_t tokens = 0;
  std::int64_t keys = 0;
};

// The keys [first, end) that a token sees: all before it, or a sliding window.
struct KeyRange {
  std::int32_t first = 0;
  std::int32_t end = 0;
};

// How attention is spread over the array. A core takes one kv head, with the query heads that share
// it, for as many tokens as a tile of queries has room for; the cores of a row get the same keys
// and values. What lies in the buffers, all padded with zeros:
//   keys and values: [kv head][chunk]       chunks of kKeyValueChunkBytes
//   queries:         [kv round][token block][column of cores][row of cores]   kQueryTileBytes each
//   output:          the same               kAttentionOutBytes each
// A kv round is as many kv heads as there are rows of cores; a token block is the tokens of all
// columns.
class AttentionLayout {
 public:
  // INVALID_ARGUMENT: an empty shape, heads that are no multiple of kv_heads or more of them to one
  // kv head than a tile has queries, a size of heads without a kernel, more than 2^24 keys or
  // tokens.
  static absl::StatusOr<AttentionLayout> Make(const ArrayShape& array, const AttentionShape& shape);

  const ArrayShape& array() const { return array_; }
  const AttentionShape& shape() const { return shape_; }
  std::uint32_t rows() const { return rows_; }  // queries of a tile, keys of a chunk
  std::uint32_t tokens_per_tile() const { return tokens_per_tile_; }
  std::uint32_t kv_rounds() const { return kv_rounds_; }
  std::uint32_t token_blocks() const { return token_blocks_; }
  std::uint32_t chunks() const { return chunks_; }  // that all keys take

  std::uint64_t key_value_bytes() const {
    return std::uint64_t{kv_rounds_} * array_.rows * chunks_ * kKeyValueChunkBytes;
  }
  std::uint64_t tiles() const {
    return std::uint64_t{kv_rounds_} * token_blocks_ * array_.columns * array_.rows;
  }
  std::uint64_t query_bytes() const { return tiles() * kQueryTileBytes; }
  std::uint64_t output_bytes() const { return tiles() * kAttentionOutBytes; }

 private:
  ArrayShape array_;
  AttentionShape shape_;
  std::uint32_t rows_ = 0;
  std::uint32_t group_ = 0;
  std::uint32_t tokens_per_tile_ = 0;
  std::uint32_t kv_rounds_ = 0;
  std::uint32_t token_blocks_ = 0;
  std::uint32_t chunks_ = 0;
};

// The chunks [first, end) that the tokens of a block see, of `ranges` of all tokens.
struct ChunkRange {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
};
ChunkRange ChunksOf(const AttentionLayout& layout, std::span<const KeyRange> ranges,
                    std::uint32_t token_block);

// Scores are powers of two on the array.
inline constexpr float kLog2E = 1.44269504f;

// `queries`: float32 (tokens, heads * head_dim), rows `stride` apart, times `scale`. A range for
// each token, none past the keys. `out`: layout.query_bytes(), aligned to 4.
void PackQueries(const AttentionLayout& layout, std::span<const KeyRange> ranges,
                 const float* queries, std::int64_t stride, float scale, std::span<std::byte> out);

// Keys and values [0, shape.keys): float32 (keys, kv_heads * head_dim), rows `stride` apart. `out`:
// layout.key_value_bytes().
void PackKeysValues(const AttentionLayout& layout, const float* keys, const float* values,
                    std::int64_t stride, std::span<std::byte> out);

// (tokens, heads * head_dim), rows `stride` apart, from `packed`, layout.output_bytes().
void UnpackAttention(const AttentionLayout& layout, std::span<const std::byte> packed, float* out,
                     std::int64_t stride);

}  // namespace tandem::npu
