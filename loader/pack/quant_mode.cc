#include "loader/pack/quant_mode.h"

#include "lib/base/status_macros.h"

namespace tandem {
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
