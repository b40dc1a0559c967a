#include "tests/unit/gpu-worker/test_matrix.h"

#include "lib/base/numeric.h"
#include "lib/weights/region.h"

namespace tandem {

std::vector<float> TestMatrix::Row(std::int64_t row) const {
  std::vector<float> out(static_cast<std::size_t>(cols));
  DequantizeRow({{rows, cols}, format, values, scales}, row, out);
  return out;
}

WeightFormat WeightFormatOf(const std::string& kernel) {
  const std::size_t begin = kernel.find('_') + 1;
  return *ParseWeightFormat(kernel.substr(begin, kernel.find('_', begin) - begin));
}

TestMatrix RandomMatrix(WeightFormat format, std::int64_t rows, std::int64_t cols,
                        TestRandom* random) {
  TestMatrix matrix{rows, cols, format, {}, {}};
  const PlaneSizes sizes = *PlaneSizesOf(format, {rows, cols});
  matrix.values.resize(sizes.value_bytes);
  if (format == WeightFormat::kBf16) {
    std::vector<std::uint16_t> values(sizes.value_bytes / 2);
    for (std::uint16_t& value : values) value = FloatToBf16(random->Uniform(-1, 1));
    matrix.values = ToBytes(values);
    return matrix;
  }
  for (std::byte& value : matrix.values) value = static_cast<std::byte>(random->Integer(0, 255));
  std::vector<std::uint16_t> scales(sizes.scale_bytes / 2);
  for (std::uint16_t& scale : scales) scale = FloatToHalf(random->Uniform(-0.02f, 0.02f));
  matrix.scales = ToBytes(scales);
  matrix.scales.resize(RoundUp(matrix.scales.size(), 4));  // kernels read words
  return matrix;
}

TestStep StepOf(std::int32_t tokens) {
  TestStep step;
  step.tokens.assign(static_cast<std::size_t>(tokens), 0);
  step.logit_rows.assign(static_cast<std::size_t>(tokens), 0);
  return step;
}

}  // namespace tandem
