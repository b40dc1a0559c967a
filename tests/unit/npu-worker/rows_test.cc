// What works row by row on the NPU: layout, instructions and host-compiled kernels on the model of
// the array, against the CPU device's and against twins in double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/device/cpu/kernels.h"
#include "npu-worker/rows/rows_sequence.h"
#include "tests/unit/npu-worker/array_call.h"
#include "tests/unit/npu-worker/cpu_twins.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

std::vector<float> Random(std::int64_t n, std::uint32_t seed, float width) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, width);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = normal(random);
  return values;
}

// The rows of `x` through the array; `operand_stride` 0: one operand for all.
std::vector<float> OnArray(const ArrayShape& array, const RowsShape& shape,
                           const std::vector<float>& x, const std::vector<float>& operand,
                           std::int64_t operand_stride) {
  const auto layout = RowsLayout::Make(array, shape);
  EXPECT_TRUE(layout.ok()) << layout.status();
  ArrayCall call({layout->pair_bytes(), layout->out_bytes()});
  PackRows(*layout, x.data(), shape.width, operand.data(), operand_stride, call.buffer(0));
  EXPECT_EQ(call.Run(array, RowsDesign(array), RowsInstructions(*layout)), "");
  std::vector<float> out(x.size());
  UnpackRows(*layout, call.buffer(1), out.data(), shape.width);
  return out;
}

double GeluTwin(double x) {
  const double y = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * y));
}

class NpuRowsTest : public testing::TestWithParam<ArrayShape> {};

// Hidden sizes of Gemma 3 and others; fewer rows than cores, and more.
TEST_P(NpuRowsTest, RmsNorm) {
  constexpr float kEps = 1e-6f;
  for (const std::int64_t width : {1, 16, 1024, 1025, 1152, 5376, 6144}) {
    const std::int64_t rows = width == 1152 ? 70 : 3;
    for (const float spread : {1e-3f, 1.0f, 300.0f}) {
      const std::vector<float> x = Random(rows * width, 1, spread), weights = Random(width, 2, 1);
      const RowsShape shape = {RowOperation::kRmsNorm, rows, width, 0, kEps, 1};
      const std::vector<float> found = OnArray(GetParam(), shape, x, weights, 0);
      std::vector<double> expected;
      std::vector<float> cpu(x.size());
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* row = x.data() + r * width;
        double squares = 0;
        for (std::int64_t i = 0; i < width; ++i) squares += double{row[i]} * row[i];
        const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + double{kEps});
        for (std::int64_t i = 0; i < width; ++i) expected.push_back(row[i] * scale * weights[i]);
        RmsNormRow(row, weights.data(), width, kEps, cpu.data() + r * width);
      }
      ExpectClose(found, expected, 1e-6);
      ExpectClose(found, Doubles(cpu), 1e-6);
    }
  }
}

// Heads of all of Gemma 3's queries and keys, each row with angles of its own.
TEST_P(NpuRowsTest, Rotate) {
  for (const auto& [heads, dim] : {std::pair{1, 32}, {32, 128}, {16, 128}, {1, 256}, {9, 256}}) {
    const std::int64_t rows = 5, half = dim / 2, width = heads * dim;
    const std::vector<float> angles = Random(rows * half, 3, 100);
    std::vector<float> table;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 0; i < half; ++i) table.push_back(std::cos(angles[r * half + i]));
      for (std::int64_t i = 0; i < half; ++i) table.push_back(std::sin(angles[r * half + i]));
    }
    const std::vector<float> x = Random(rows * width, 4, 2);
    const RowsShape shape = {RowOperation::kRotate, rows, width, half, 0, 0.0625f};
    std::vector<float> cpu = x;
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* cosines = table.data() + r * dim;
      for (std::int64_t h = 0; h < heads; ++h)
        RotateRow(cpu.data() + r * width + h * dim, cosines, cosines + half, dim, shape.scale);
    }
    ExpectClose(OnArray(GetParam(), shape, x, table, dim), Doubles(cpu), 2e-7);
  }
}

// Feed-forward sizes, from where the exponential is clamped to where it vanishes.
TEST_P(NpuRowsTest, GeGlu) {
  for (const std::int64_t width : {16, 1000, 6912, 21504}) {
    for (const float spread : {0.1f, 2.0f, 40.0f}) {
      const std::int64_t rows = 2;
      const std::vector<float> x = Random(rows * width, 5, spread), up = Random(rows * width, 6, 1);
      const RowsShape shape = {RowOperation::kGeGlu, rows, width, 0, 0, 1};
      const std::vector<float> found = OnArray(GetParam(), shape, x, up, width);
      std::vector<double> expected;
      for (std::size_t i = 0; i < x.size(); ++i) expected.push_back(GeluTwin(x[i]) * up[i]);
      ExpectClose(found, expected, 1e-6);
      std::vector<float> cpu = x;
      GeGluRow(cpu.data(), up.data(), static_cast<std::int64_t>(cpu.size()));
      ExpectClose(found, Doubles(cpu), 1e-6);
    }
  }
}

// Small values keep their relative accuracy: the exponential is right to the last bits everywhere.
TEST_P(NpuRowsTest, GeGluOfEveryMagnitude) {
  std::vector<float> x;
  for (float v = -5.0f; v < 12.0f; v += 0.0137f) x.push_back(v);
  const auto width = static_cast<std::int64_t>(x.size());
  const std::vector<float> up(x.size(), 1.0f);
  const RowsShape shape = {RowOperation::kGeGlu, 1, width, 0, 0, 1};
  const std::vector<float> found = OnArray(GetParam(), shape, x, up, width);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = GeluTwin(x[i]);
    ASSERT_NEAR(found[i], expected, std::abs(expected) * 5e-6 + 1e-12) << x[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Generations, NpuRowsTest, testing::Values(kAie2Array, kAie2pArray),
                         [](const auto& info) {
                           return info.param == kAie2Array ? "Aie2" : "Aie2p";
                         });

TEST(NpuRowsLayoutTest, RefusesWhatACoreCannot) {
  constexpr std::int64_t kMost = 1 << 24;
  const std::pair<RowsShape, const char*> cases[] = {
      {{RowOperation::kRmsNorm, 0, 16}, "rows and columns, found (0, 16)"},
      {{RowOperation::kRmsNorm, 1, 0}, "rows and columns, found (1, 0)"},
      {{RowOperation::kRmsNorm, 1, 6145}, "at most 6144 columns for RMSNorm, found 6145"},
      {{RowOperation::kRotate, 1, 128, 0}, "found heads of 0"},
      {{RowOperation::kRotate, 1, 128, 8}, "found heads of 16"},
      {{RowOperation::kRotate, 1, 192, 48}, "found heads of 96"},
      {{RowOperation::kRotate, 1, 100, 16}, "divide 1024 and 100 columns"},
      {{RowOperation::kGeGlu, kMost, 1024}, "in buffers of 4 GiB"}};
  for (const auto& [shape, message] : cases) {
    const auto layout = RowsLayout::Make(kAie2Array, shape);
    EXPECT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(layout.status().message()), HasSubstr(message));
  }
}

// A header that promises more than the instructions stream leaves the array waiting; one with more
// chunks than a core keeps would write past them.
TEST(NpuRowsLayoutTest, HeadersThatLieAreFound) {
  const auto layout = RowsLayout::Make(kAie2Array, {RowOperation::kGeGlu, 1, 16});
  ASSERT_TRUE(layout.ok());
  const std::vector<float> ones(16, 1.0f);
  const auto run = [&](auto change) {
    ArrayCall call({layout->pair_bytes(), layout->out_bytes()});
    PackRows(*layout, ones.data(), 16, ones.data(), 16, call.buffer(0));
    for (std::uint32_t core = 0; core < kAie2Array.rows; ++core)
      change(reinterpret_cast<RowsHeader*>(call.buffer(0).data() + core * kRowPairBytes), core);
    return call.Run(kAie2Array, RowsDesign(kAie2Array), RowsInstructions(*layout));
  };
  EXPECT_EQ(run([](RowsHeader*, std::uint32_t) {}), "");
  EXPECT_THAT(run([](RowsHeader* h, std::uint32_t) { h->rows = 2; }),
              HasSubstr("a wait that never ends"));
  EXPECT_THAT(run([](RowsHeader* h, std::uint32_t) { h->chunks = 7; }),
              HasSubstr("longer than a core keeps"));
  EXPECT_THAT(run([](RowsHeader* h, std::uint32_t core) { h->rows += core == 2; }),
              HasSubstr("different numbers of rows"));
}

TEST(NpuRowsLayoutTest, Budgets) {
  EXPECT_EQ(kRowsCoreBytes, 51264U);
  EXPECT_EQ(RowsMemoryTileBytes(kAie2Array), 98304U);
}

}  // namespace
}  // namespace tandem::npu
