#pragma once

#include <cstdint>
#include <span>
#include <vector>

// The NPU firmware's transactions: what XRT's instruction buffer holds, in the form 0.1 that
// mlir-aie writes (AIETargetNPU.cpp) and both generations take. Words of 32 bits.

namespace tandem::npu {

// Registers of the array, as AMD's register reference and mlir-aie's target model have them.
// A tile's address is column << 25 | row << 20 | offset; row 0 is the shim, 1 the memory tile,
// cores begin at 2.
inline constexpr std::uint32_t kColumnShift = 25;
inline constexpr std::uint32_t kRowShift = 20;
inline constexpr std::uint32_t kFirstCoreRow = 2;
inline constexpr std::uint32_t TileAddress(std::uint32_t column, std::uint32_t row,
                                           std::uint32_t offset) {
  return column << kColumnShift | row << kRowShift | offset;
}
// Buffer descriptors of a shim tile: 16 of 8 words.
inline constexpr std::uint32_t kShimDescriptors = 16;
inline constexpr std::uint32_t kDescriptorWords = 8;
inline constexpr std::uint32_t ShimDescriptor(std::uint32_t index) {
  return 0x1D000 + index * 0x20;
}
// Task queues of a shim tile's channels: S2MM writes memory, MM2S reads it; two of each.
enum class Direction : std::uint32_t { kToMemory = 0, kFromMemory = 1 };
inline constexpr std::uint32_t ShimQueue(Direction direction, std::uint32_t channel) {
  return (direction == Direction::kToMemory ? 0x1D204U : 0x1D214U) + channel * 8;
}
// Entries that a queue holds beside the task that runs.
inline constexpr std::uint32_t kQueueDepth = 4;

// Operations, in the first byte of their first word.
enum class Operation : std::uint32_t {
  kWrite = 0x00,       // 6 words: op, -, address, -, value, bytes
  kBlockWrite = 0x01,  // 4 + n words: op, -, address, bytes, values
  kMaskWrite = 0x03,   // 7 words: op, -, address, -, value, mask, bytes
  kWaitToken = 0x80,  // 4 words: op, bytes, column << 16 | row << 8 | direction, channel << 24 | ..
  kPatchAddress = 0x81,  // 12 words: op, bytes, .., [6] address, [8] argument, [10] offset
};
inline constexpr std::uint32_t kHeaderWords = 4;
// Rows 6, generation 3, version 0.1; then columns and rows of memory tiles.
inline constexpr std::uint32_t kHeaderVersion = 0x06030100;

// A linear transfer between a buffer of the call and a stream.
struct ShimTransfer {
  std::uint32_t column = 0;
  Direction direction = Direction::kFromMemory;
  std::uint32_t channel = 0;
  std::uint32_t descriptor = 0;
  // Which of the call's buffers, counted from the first after the instructions.
  std::uint32_t argument = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;   // a multiple of 4
  std::uint32_t repeat = 1;  // 1 to 256
  // The channel announces the end: Wait then takes that token.
  bool token = false;
};

// Writes one transaction. Not thread-safe.
class TransactionWriter {
 public:
  explicit TransactionWriter(std::uint32_t columns);
  void Write(std::uint32_t address, std::uint32_t value);
  void Start(const ShimTransfer& transfer);
  void Wait(std::uint32_t column, Direction direction, std::uint32_t channel);
  // The words, header included; the writer is used up.
  std::vector<std::uint32_t> Finish() &&;

 private:
  std::span<std::uint32_t> Append(std::uint32_t words);
  std::vector<std::uint32_t> words_;
  std::uint32_t operations_ = 0;
};

}  // namespace tandem::npu
