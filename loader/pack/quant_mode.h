#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/model/tensors.h"
#include "lib/weights/format.h"
#include "loader/read/source_type.h"

namespace tandem {

// What `--quant` asks for. As-is keeps what can be kept: F32, F16 and BF16 become bf16, Q4_0 int4,
// every other block type int8.
enum class QuantMode : std::uint8_t { kBf16, kInt8, kInt4, kAsIs };

std::string_view QuantModeName(QuantMode mode);  // "bf16", "int8", "int4", "as-is"
absl::StatusOr<QuantMode> ParseQuantMode(std::string_view name);

// The format in memory of a tensor; vectors are float32 always.
WeightFormat FormatFor(QuantMode mode, TensorKind kind, SourceType source);

}  // namespace tandem
