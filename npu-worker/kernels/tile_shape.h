#pragma once

#include <cstdint>

// What one core of the array computes at a time and what that takes of its memory. Included by the
// kernels (built for the cores and for the host), by the packer and by the tests; the design in
// designs/product.py asks the built description for the same numbers (tile_shape_json.cc).

namespace tandem::npu {

// Two generations: AIE2 (Phoenix, Hawk Point) and AIE2P (Strix, Krackan, Strix Halo).
struct ArrayShape {
  std::uint32_t rows = 0;     // rows of cores
  std::uint32_t columns = 0;  // columns of cores that have a shim DMA below them
  // Rows of the matrix that one int8 multiply instruction takes: 4 x 8 x 8 or 8 x 8 x 8.
  std::uint32_t instruction_rows = 0;
  // int8 multiply-accumulates that a core starts in each cycle.
  std::uint32_t macs_per_cycle = 0;
  bool operator==(const ArrayShape&) const = default;
};
inline constexpr ArrayShape kAie2Array = {4, 4, 4, 256};
inline constexpr ArrayShape kAie2pArray = {4, 8, 8, 512};

// Columns that share a scale, in weights and activations both.
inline constexpr std::uint32_t kGroup = 32;
// One call of the kernel: 64 rows of weights times 64 tokens over 128 columns, added to 64 x 64
// float32 sums that stay in the core's memory until the last column.
inline constexpr std::uint32_t kTileRows = 64;
inline constexpr std::uint32_t kTileTokens = 64;
inline constexpr std::uint32_t kTileColumns = 128;
inline constexpr std::uint32_t kTileGroups = kTileColumns / kGroup;
// An instruction takes 8 columns and gives 8 tokens in both generations.
inline constexpr std::uint32_t kOctet = 8;

// A chunk of weights: quants, then float32 scales [group][row]. Quants lie as the instruction takes
// them: [row block][octet of columns][row][column]. int8: a byte each. int4: two's complement
// nibbles, the even column in the low one.
inline constexpr std::uint32_t WeightQuantBytes(bool int4) {
  return kTileRows * kTileColumns / (int4 ? 2 : 1);
}
inline constexpr std::uint32_t kWeightScaleBytes = kTileGroups * kTileRows * 4;
inline constexpr std::uint32_t WeightChunkBytes(bool int4) {
  return WeightQuantBytes(int4) + kWeightScaleBytes;
}
// A chunk of activations: int8 quants [token block][octet of columns][column][token], then float32
// scales [group][token].
inline constexpr std::uint32_t kActivationQuantBytes = kTileTokens * kTileColumns;
inline constexpr std::uint32_t kActivationScaleBytes = kTileGroups * kTileTokens * 4;
inline constexpr std::uint32_t kActivationChunkBytes =
    kActivationQuantBytes + kActivationScaleBytes;
// The sums: float32 [row block][token block][row][token], row blocks of `instruction_rows`.
inline constexpr std::uint32_t kOutputTileBytes = kTileRows * kTileTokens * 4;

// A core has 64 KiB of data memory, of which the stack and the object FIFOs' alignment take some.
inline constexpr std::uint32_t kCoreMemoryBytes = 64 * 1024;
inline constexpr std::uint32_t kCoreStackBytes = 2 * 1024;
// k_chunks, the run-time parameter: how many chunks make a row. As large as what AIE2P loads at
// once, like the sizes of all buffers: the compiler, which aligns buffers to 32 bytes for both
// generations, then lays them one behind the other at multiples of 64.
inline constexpr std::uint32_t kCoreParameterBytes = 64;
// Inputs are double-buffered, the sums are not: while they leave, the core waits.
inline constexpr std::uint32_t CoreMemoryNeeded(bool int4) {
  return kCoreStackBytes + kCoreParameterBytes + 2 * WeightChunkBytes(int4) +
         2 * kActivationChunkBytes + kOutputTileBytes;
}
static_assert(CoreMemoryNeeded(false) <= kCoreMemoryBytes);
static_assert(CoreMemoryNeeded(true) <= kCoreMemoryBytes);

// A memory tile has 512 KiB: it passes one stream of weights and one of activations on and joins
// the outputs of its column's cores, everything twice.
inline constexpr std::uint32_t kMemoryTileBytes = 512 * 1024;
inline constexpr std::uint32_t MemoryTileNeeded(const ArrayShape& array, bool int4) {
  return 2 * (WeightChunkBytes(int4) + kActivationChunkBytes + array.rows * kOutputTileBytes);
}
static_assert(MemoryTileNeeded(kAie2Array, false) <= kMemoryTileBytes);
static_assert(MemoryTileNeeded(kAie2pArray, false) <= kMemoryTileBytes);

}  // namespace tandem::npu
