#include "loader/pack/quant_mode.h"

#include <utility>

#include "absl/status/status.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"

namespace tandem {
namespace {

constexpr std::pair<QuantMode, std::string_view> kNames[] = {{QuantMode::kBf16, "bf16"},
                                                             {QuantMode::kInt8, "int8"},
                                                             {QuantMode::kInt4, "int4"},
                                                             {QuantMode::kAsIs, "as-is"}};

}  // namespace

std::string_view QuantModeName(QuantMode mode) {
  for (const auto& [value, name] : kNames) {
    if (value == mode) return name;
  }
  TANDEM_CHECK(false);
}

absl::StatusOr<QuantMode> ParseQuantMode(std::string_view name) {
  for (const auto& [value, text] : kNames) {
    if (text == name) return value;
  }
  return absl::InvalidArgumentError(
      Cat("--quant: expected bf16, int8, int4 or as-is, found '", name, "'"));
}

WeightFormat FormatFor(QuantMode mode, TensorKind kind, SourceType source) {
  if (!IsMatrix(kind)) return WeightFormat::kF32;
  switch (mode) {
    case QuantMode::kBf16:
      return WeightFormat::kBf16;
    case QuantMode::kInt8:
      return WeightFormat::kInt8;
    case QuantMode::kInt4:
      return WeightFormat::kInt4;
    case QuantMode::kAsIs:
      break;
  }
  switch (source) {
    case SourceType::kF32:
    case SourceType::kF16:
    case SourceType::kBf16:
      return WeightFormat::kBf16;
    case SourceType::kQ4_0:
      return WeightFormat::kInt4;
    case SourceType::kQ8_0:
    case SourceType::kQ5_0:
    case SourceType::kQ4K:
    case SourceType::kQ5K:
    case SourceType::kQ6K:
      return WeightFormat::kInt8;
  }
  TANDEM_CHECK(false);
}

}  // namespace tandem
