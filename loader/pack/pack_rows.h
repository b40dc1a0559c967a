#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/weights/format.h"
#include "loader/read/source_type.h"

namespace tandem {

// Rows as they lie in a file -> rows of a region's planes.
//
// Where the target can hold the source's values they pass through unchanged: bf16 -> bf16, Q8_0,
// Q5_0 and Q4_0 -> int8, Q4_0 -> int4. Everything else goes through float32 and QuantizeRow.
// `offset` is added to each value (vectors: 1 where the file has w).

struct PackJob {
  SourceType source = SourceType::kF32;
  WeightFormat target = WeightFormat::kF32;
  std::int64_t cols = 0;
  float offset = 0;
};

// Whether the rows of the file are the rows of the value plane byte for byte, so that they can be
// read straight into it.
bool IsVerbatim(const PackJob& job);

// Packs `raw` (whole rows) into `values` and `scales`, exactly as long as these rows are there;
// `scratch` is working memory, kept between calls. With IsVerbatim `raw` may be `values` itself.
// False when a value or a scale is not finite.
[[nodiscard]] bool PackRows(const PackJob& job, std::span<const std::byte> raw,
                            std::span<std::byte> values, std::span<std::byte> scales,
                            std::vector<float>& scratch);

}  // namespace tandem
