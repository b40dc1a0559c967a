#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lib/model/tensors.h"

namespace tandem {

// How a tensor lies in a file. The blocks are GGUF's; element order is row after row, columns
// contiguous, blocks never cross rows.
//   Q8_0: 32 values in 34 bytes: fp16 d, 32 int8 q.            value = q * d
//   Q5_0: 32 in 22: fp16 d, 4 bytes fifth bits, 16 bytes nibbles (byte j: j low, j + 16 high).
//   value = (q - 16) * d Q4_0: 32 in 18: fp16 d, 16 bytes nibbles (the same order).  value = (q -
//   8) * d Q4_K: 256 in 144: fp16 d, fp16 dmin, 12 bytes with 8 six-bit scales and 8 six-bit
//   minima, 128 bytes nibbles. Q5_K: 256 in 176: the same with 32 bytes of fifth bits before the
//   nibbles. value = d * scale * q - dmin * min Q6_K: 256 in 210: 128 bytes low nibbles, 64 bytes
//   upper bit pairs, 16 int8 scales, fp16 d. value = d * scale * (q - 32)
enum class SourceType : std::uint8_t { kF32, kF16, kBf16, kQ8_0, kQ5_0, kQ4_0, kQ4K, kQ5K, kQ6K };

std::string_view SourceTypeName(SourceType type);  // as GGUF tools print it: "F32", "Q4_K"

struct BlockSize {
  std::int64_t elements = 1;
  std::int64_t bytes = 1;
};
BlockSize BlockSizeOf(SourceType type);

// Bytes of `cols` values; cols is a multiple of the block's elements.
std::uint64_t RowBytesOf(SourceType type, std::int64_t cols);

// Raw bytes of whole blocks -> floats. in.size() and out.size() belong together. The plain
// definition, one block at a time.
void DequantizeSource(SourceType type, std::span<const std::byte> in, std::span<float> out);

}  // namespace tandem
