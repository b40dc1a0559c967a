#pragma once

#include <cstdint>

#include "npu-worker/kernels/tile_shape.h"

// What one core attends to at a time and what that takes of its memory. Included by the kernels
// (built for the cores and for the host), by the packer, by the model of the array and by the
// tests; designs/attention.py computes the same numbers, which a test holds.

namespace tandem::npu {

// A tile of queries and a chunk of keys or values are 4,096 numbers each, in bfloat16: 32 rows of
// 128 or 16 of 256. Other sizes of heads have no kernel.
inline constexpr std::uint32_t kAttentionValues = 4096;
inline constexpr bool AttentionTakes(std::int64_t head_dim) {
  return head_dim == 128 || head_dim == 256;
}
// Queries of a tile, keys of a chunk.
inline constexpr std::uint32_t AttentionRows(std::uint32_t head_dim) {
  return kAttentionValues / head_dim;
}
inline constexpr std::uint32_t kMostAttentionRows = AttentionRows(128);
// Queries that one instruction takes, with 8 dimensions of them and 8 keys: 4 x 8 x 8 bfloat16,
// one instruction of AIE2P, two of AIE2.
inline constexpr std::uint32_t kQuad = 4;
inline constexpr std::uint32_t kMostQuads = kMostAttentionRows / kQuad;
inline constexpr std::uint32_t kQuadLanes = kQuad * kOctet;

// A tile of queries: int32 header, then for each query the first key that it sees and the one
// behind its last (int32, counted as the keys of the whole sequence), then the queries in bfloat16,
// [quad][octet of dimensions][query][dimension], scaled by log2(e) and the model's scale. Queries
// that are not there see none.
inline constexpr std::uint32_t kAttentionHeaderWords = 16;
inline constexpr std::uint32_t kHeaderChunks = 0;      // chunks of keys and values that follow
inline constexpr std::uint32_t kHeaderHeadDim = 1;     // 128 or 256
inline constexpr std::uint32_t kHeaderFirstChunk = 2;  // which chunk of the sequence the first is
inline constexpr std::uint32_t kQueryTileBytes =
    (kAttentionHeaderWords + 2 * kMostAttentionRows) * 4 + kAttentionValues * 2;
// A chunk: keys [octet of keys][octet of dimensions][dimension][key], then values
// [octet of dimensions][octet of keys][key][dimension], as the instruction takes them.
inline constexpr std::uint32_t kKeyValueChunkBytes = 2 * kAttentionValues * 2;
// What comes out: float32 [quad][octet of dimensions][query][dimension].
inline constexpr std::uint32_t kAttentionOutBytes = kAttentionValues * 4;

// What a core keeps from chunk to chunk; lanes are [query of a quad][8], as the instruction's sums
// lie: of `references` all 8 are the same, of `totals` each has the keys of its place in an octet.
struct AttentionProgress {
  alignas(64) float references[kMostQuads][kQuadLanes];
  float totals[kMostQuads][kQuadLanes];
  std::int32_t chunk;  // the next one's number in the sequence
  std::int32_t unused[15];
};
inline constexpr std::uint32_t kAttentionProgressBytes = 2 * kMostQuads * kQuadLanes * 4 + 64;
static_assert(sizeof(AttentionProgress) == kAttentionProgressBytes);

// Chunks are double-buffered; queries, which the core reads all the time, and sums are not.
inline constexpr std::uint32_t kAttentionCoreBytes = kCoreStackBytes + kQueryTileBytes +
                                                     2 * kKeyValueChunkBytes + kAttentionOutBytes +
                                                     kAttentionProgressBytes;
static_assert(kAttentionCoreBytes <= kCoreMemoryBytes);

// A memory tile passes one stream of chunks on, splits the queries to its column's cores and joins
// what they give, everything twice.
inline constexpr std::uint32_t AttentionMemoryTileBytes(const ArrayShape& array) {
  return 2 * (kKeyValueChunkBytes + array.rows * (kQueryTileBytes + kAttentionOutBytes));
}
static_assert(AttentionMemoryTileBytes(kAie2Array) <= kMemoryTileBytes);
static_assert(AttentionMemoryTileBytes(kAie2pArray) <= kMemoryTileBytes);
// Its DMA channels, 6 each way: chunks, queries and each core's sums in; chunks, each core's
// queries and the joined sums out.
inline constexpr std::uint32_t kMemoryTileChannels = 6;
static_assert(2 + kAie2Array.rows <= kMemoryTileChannels);

}  // namespace tandem::npu
