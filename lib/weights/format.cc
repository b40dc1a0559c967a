#include "lib/weights/format.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::pair<WeightFormat, std::string_view> kNames[] = {{WeightFormat::kF32, "f32"},
                                                                {WeightFormat::kBf16, "bf16"},
                                                                {WeightFormat::kInt8, "int8"},
                                                                {WeightFormat::kInt4, "int4"}};

}  // namespace

std::string_view WeightFormatName(WeightFormat format) {
  for (const auto& [value, name] : kNames) {
    if (value == format) return name;
  }
  TANDEM_CHECK(false);
}

absl::StatusOr<WeightFormat> ParseWeightFormat(std::string_view name) {
  for (const auto& [value, text] : kNames) {
    if (text == name) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "weight format: expected f32, bf16, int8 or int4, found '", AbslView(name), "'"));
}

absl::StatusOr<PlaneSizes> PlaneSizesOf(WeightFormat format, TensorShape shape) {
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 48;
  if (shape.rows < 1 || shape.cols < 1 || shape.rows > kMaxElements / shape.cols) {
    return absl::InvalidArgumentError(absl::StrCat("tensor shape: expected positive sizes, found (",
                                                   shape.rows, ", ", shape.cols, ")"));
  }
  const auto elements = static_cast<std::uint64_t>(shape.rows * shape.cols);
  if (format == WeightFormat::kF32) return PlaneSizes{elements * 4, 0};
  if (format == WeightFormat::kBf16) return PlaneSizes{elements * 2, 0};
  if (shape.cols % kGroupSize != 0) {
    return absl::InvalidArgumentError(absl::StrCat(AbslView(WeightFormatName(format)),
                                                   ": expected a row length that is a multiple of ",
                                                   kGroupSize, ", found ", shape.cols));
  }
  const std::uint64_t scale_bytes = elements / kGroupSize * 2;
  return PlaneSizes{format == WeightFormat::kInt8 ? elements : elements / 2, scale_bytes};
}

}  // namespace tandem
