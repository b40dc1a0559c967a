#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/model/tensors.h"

namespace tandem {

// How a matrix (rows, cols) lies in a region. Vectors (norms) are always float32, already 1 + w.
//   bf16: one plane, rows x cols bfloat16.
//   int8: a plane of rows x cols int8, then a plane of rows x cols/32 fp16 scales. value = q *
//   scale, q in [-127, 127] (-128 is
//         accepted from Q8_0 files).
//   int4: a plane of rows x cols/2 bytes, then the scale plane. Each group of 32 columns is 16
//   bytes: byte j holds column j in its low and
//         column j + 16 in its high nibble; value = (nibble - 8) * scale. The same values as GGUF's
//         Q4_0.
// Both planes start at multiples of kPlaneAlignment; rows are contiguous, no padding between rows.
// cols is a multiple of 32 for int8/int4. The scale plane stands apart so that 16-byte loads of the
// quants stay aligned.
enum class WeightFormat : std::uint8_t { kF32 = 0, kBf16 = 1, kInt8 = 2, kInt4 = 3 };

inline constexpr std::int64_t kGroupSize = 32;
// a page: planes can be imported into a device on their own
inline constexpr std::int64_t kPlaneAlignment = 4096;

std::string_view WeightFormatName(WeightFormat format);  // "f32", "bf16", "int8", "int4"
absl::StatusOr<WeightFormat> ParseWeightFormat(std::string_view name);

// Bytes of the planes, unpadded. scale_bytes is 0 for f32 and bf16.
struct PlaneSizes {
  std::uint64_t value_bytes = 0;
  std::uint64_t scale_bytes = 0;
};
// INVALID_ARGUMENT when the format cannot hold the shape (cols not a multiple of 32).
absl::StatusOr<PlaneSizes> PlaneSizesOf(WeightFormat format, TensorShape shape);

}  // namespace tandem
