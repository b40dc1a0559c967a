#include "tests/unit/gpu-worker/activation_forms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lib/base/numeric.h"
#include "tests/unit/gpu-worker/kernel_twins.h"

namespace tandem {
namespace {

constexpr std::size_t kGroup = 32;
constexpr std::size_t kChunk = 128;

// Byte of a value of kQ8, and float of the first of a group's two numbers.
std::size_t Q8Byte(const ActivationShape& shape, std::size_t row, std::size_t column) {
  return row * shape.cols * 4 + column;
}
std::size_t Q8Scale(const ActivationShape& shape, std::size_t row, std::size_t group) {
  return row * shape.cols + shape.cols / 4 + 2 * group;
}

// Index of a half of kF16.
std::size_t F16Half(const ActivationShape& shape, std::size_t row, std::size_t column) {
  constexpr std::size_t kPlace[] = {0, 2, 1, 3};  // of a column within its four
  const std::size_t within = column % kGroup;
  const std::size_t word = within % 16 / 4;
  const std::size_t group = column % kChunk / kGroup;
  const std::size_t eight = column / kChunk * (shape.pad / 8) + row / 8;
  const std::size_t slot = (eight * 4 + word) * 32 + row % 8 * 4 + group;
  return slot * 8 + (within >= 16 ? 4 : 0) + kPlace[within % 4];
}

template <typename T>
void Put(Bytes* bytes, std::size_t index, T value) {
  std::memcpy(bytes->data() + index * sizeof(T), &value, sizeof(T));
}
template <typename T>
T Get(const Bytes& bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

void EncodeGroup(const ActivationShape& shape, std::size_t row, std::size_t group,
                 std::span<const float> values, Bytes* bytes) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  const float scale = largest / 127.0f;
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < kGroup; ++i) {
    const float quotient = largest > 0 ? values[i] / scale : 0;
    const auto rounded = static_cast<std::int8_t>(std::nearbyint(quotient));
    sum += rounded;
    Put(bytes, Q8Byte(shape, row, group * kGroup + i), rounded);
  }
  Put(bytes, Q8Scale(shape, row, group), scale);
  Put(bytes, Q8Scale(shape, row, group) + 1, 8 * scale * static_cast<float>(sum));
}

}  // namespace

ActivationForm FormOf(const std::string& kernel) {
  if (kernel.ends_with("_q8")) return ActivationForm::kQ8;
  return kernel.ends_with("_f16") ? ActivationForm::kF16 : ActivationForm::kFloat32;
}

Bytes EncodeActivations(ActivationForm form, const ActivationShape& shape,
                        std::span<const float> values) {
  Bytes bytes(shape.pad * shape.cols * sizeof(float));
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const auto of_row = values.subspan(row * shape.cols, shape.cols);
    for (std::size_t c = 0; c < shape.cols; ++c) {
      if (form == ActivationForm::kFloat32) Put(&bytes, row * shape.cols + c, of_row[c]);
      if (form == ActivationForm::kF16) {
        Put(&bytes, F16Half(shape, row, c), FloatToHalf(of_row[c]));
      }
      if (form == ActivationForm::kQ8 && c % kGroup == 0) {
        EncodeGroup(shape, row, c / kGroup, of_row.subspan(c, kGroup), &bytes);
      }
    }
  }
  return bytes;
}

std::vector<float> DecodeActivations(ActivationForm form, const ActivationShape& shape,
                                     const Bytes& bytes) {
  std::vector<float> values;
  for (std::size_t row = 0; row < shape.rows; ++row) {
    for (std::size_t c = 0; c < shape.cols; ++c) {
      if (form == ActivationForm::kFloat32) {
        values.push_back(Get<float>(bytes, row * shape.cols + c));
      } else if (form == ActivationForm::kF16) {
        values.push_back(HalfToFloat(Get<std::uint16_t>(bytes, F16Half(shape, row, c))));
      } else {
        const auto value = static_cast<float>(Get<std::int8_t>(bytes, Q8Byte(shape, row, c)));
        values.push_back(value * Get<float>(bytes, Q8Scale(shape, row, c / kGroup)));
      }
    }
  }
  return values;
}

void ExpectActivations(ActivationForm form, const ActivationShape& shape, std::size_t written,
                       const Bytes& bytes, std::span<const float> expected, double tolerance,
                       const std::string& what) {
  const std::vector<float> found = DecodeActivations(form, shape, bytes);
  if (form == ActivationForm::kFloat32) {
    ExpectNear(found, expected, tolerance, what);
    return;
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (i >= written * shape.cols) {
      ASSERT_EQ(found[i], 0) << what << " wrote row " << i / shape.cols;
      continue;
    }
    const std::size_t group = i / kGroup * kGroup;
    double largest = 0;
    for (std::size_t j = group; j < group + kGroup; ++j) {
      largest = std::max(largest, std::fabs(static_cast<double>(expected[j])));
    }
    // Half a step of the rounding, and what the values themselves may be off.
    const double step = form == ActivationForm::kQ8
                            ? largest / 254
                            : std::fabs(static_cast<double>(expected[i])) / 2048 + 6e-8;
    const double difference =
        std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    ASSERT_TRUE(difference <= step * 1.01 + tolerance * largest)
        << what << " at " << i << ": expected " << expected[i] << ", found " << found[i];
  }
  for (std::size_t row = 0; form == ActivationForm::kQ8 && row < written; ++row) {
    for (std::size_t group = 0; group < shape.cols / kGroup; ++group) {
      float sum = 0;
      for (std::size_t i = 0; i < kGroup; ++i) {
        sum += static_cast<float>(Get<std::int8_t>(bytes, Q8Byte(shape, row, group * kGroup + i)));
      }
      const float scale = Get<float>(bytes, Q8Scale(shape, row, group));
      ASSERT_NEAR(Get<float>(bytes, Q8Scale(shape, row, group) + 1), 8 * scale * sum,
                  1e-5 * scale * 8 * 127)
          << what << " row " << row << " group " << group;
    }
  }
}

}  // namespace tandem
