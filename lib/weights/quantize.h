#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/weights/format.h"

namespace tandem {

// Float rows -> the formats of lib/weights/format.h. All arithmetic in float32, the scale rounded
// to fp16 before it divides.
//   int8: scale = absmax / 127, q = round(x / scale).
//   int4: scale = m / -8 where m is the value of largest magnitude with its sign, nibble = floor(x
//   / scale + 8.5) in [0, 15]:
//         what GGUF calls Q4_0, so values that came from a Q4_0 block with a nibble 0 come out as
//         they were.

// Bytes that one row of `cols` takes in each plane.
struct RowBytes {
  std::size_t values = 0;
  std::size_t scales = 0;
};
RowBytes RowBytesOf(WeightFormat format, std::int64_t cols);

// Writes one row. `values` and `scales` are exactly RowBytesOf long; cols a multiple of 32 for int8
// and int4. False when a value is NaN or infinite or becomes so in the format (bf16 overflow, a
// scale over 65504); then what was written means nothing.
[[nodiscard]] bool QuantizeRow(std::span<const float> row, WeightFormat format,
                               std::span<std::byte> values, std::span<std::byte> scales);

// Whether every value is finite.
bool AllFinite(std::span<const float> values);
bool AllFiniteBf16(std::span<const std::uint16_t> values);
bool AllFiniteHalf(std::span<const std::uint16_t> values);

}  // namespace tandem
