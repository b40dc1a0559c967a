#pragma once

#include <cstdint>

#include "npu-worker/kernels/tile_shape.h"

// How rows (RMSNorm, RoPE, GeGLU) go through a core and what that takes of its memory. Included by
// the kernels (built for the cores and for the host), by the packer, by the model of the array and
// by the tests; designs/rows.py computes the same numbers, which a test holds.

namespace tandem::npu {

// A row goes through in chunks of 1,024 float32, each in a pair with 1,024 that go with it: weights
// of RMSNorm, cosines and then sines of RoPE, what GeGLU multiplies by. What comes of a row is kept
// until the last chunk was taken: 6 chunks hold the widest row of Gemma 3 (5,376).
inline constexpr std::uint32_t kRowChunk = 1024;
inline constexpr std::uint32_t kMostRowChunks = 6;
inline constexpr std::uint32_t kRowPairBytes = 2 * kRowChunk * 4;
inline constexpr std::uint32_t kRowChunkBytes = kRowChunk * 4;
inline constexpr std::uint32_t kRowBytes = kMostRowChunks * kRowChunkBytes;

enum class RowOperation : std::int32_t { kRmsNorm = 0, kRotate = 1, kGeGlu = 2 };

// A call's first pair begins with this.
struct RowsHeader {
  std::int32_t rows;    // for this core
  std::int32_t chunks;  // of each
  RowOperation operation;
  std::int32_t half;  // of a head, for RoPE
  float inverse_n;    // 1 / width, for RMSNorm
  float eps;
  float scale;  // of what RoPE gives
  std::int32_t unused;
};
// What a core keeps of it, and where it is in a row.
struct RowsProgress {
  RowsHeader header;
  std::int32_t taken;
  std::int32_t given;
  float squares;
  std::int32_t unused[5];
};
inline constexpr std::uint32_t kRowsProgressBytes = 64;
static_assert(sizeof(RowsProgress) == kRowsProgressBytes);

inline constexpr std::uint32_t kRowsCoreBytes =
    kCoreStackBytes + 2 * kRowPairBytes + 2 * kRowChunkBytes + kRowBytes + kRowsProgressBytes;
static_assert(kRowsCoreBytes <= kCoreMemoryBytes);
// A memory tile splits pairs to its column's cores and joins their chunks, everything twice.
inline constexpr std::uint32_t RowsMemoryTileBytes(const ArrayShape& array) {
  return 2 * array.rows * (kRowPairBytes + kRowChunkBytes);
}
static_assert(RowsMemoryTileBytes(kAie2Array) <= kMemoryTileBytes);
static_assert(RowsMemoryTileBytes(kAie2pArray) <= kMemoryTileBytes);

}  // namespace tandem::npu
