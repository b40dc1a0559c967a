#include "lib/device/cpu/kernels.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "lib/base/numeric.h"
#include "lib/weights/region.h"

namespace tandem {
namespace {

// A matrix of random quants and scales in plain memory.
struct TestMatrix {
  TestMatrix(WeightFormat format, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
    std::mt19937 random(seed);
    const PlaneSizes sizes = *PlaneSizesOf(format, {rows, cols});
    values.resize(sizes.value_bytes);
    scales.resize(sizes.scale_bytes);
    for (std::byte& b : values) b = static_cast<std::byte>(random());
    std::normal_distribution<float> normal;
    if (format == WeightFormat::kBf16) {
      for (std::size_t i = 0; i < values.size(); i += 2) {
        const std::uint16_t v = FloatToBf16(normal(random));
        std::memcpy(&values[i], &v, 2);
      }
    }
    if (format == WeightFormat::kF32) {
      for (std::size_t i = 0; i < values.size(); i += 4) {
        const float v = normal(random);
        std::memcpy(&values[i], &v, 4);
      }
    }
    for (std::size_t i = 0; i < scales.size(); i += 2) {
      const std::uint16_t v = FloatToHalf(0.01f + 0.01f * std::abs(normal(random)));
      std::memcpy(&scales[i], &v, 2);
    }
    view = {{rows, cols}, format, values, scales};
  }
  std::vector<float> Row(std::int64_t row) const {
    std::vector<float> out(static_cast<std::size_t>(view.shape.cols));
    DequantizeRow(view, row, out);
    return out;
  }
  std::vector<std::byte> values;
  std::vector<std::byte> scales;
  TensorView view;
};

std::vector<float> RandomFloats(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& v : out) v = normal(random);
  return out;
}

struct Quantized {
  Quantized(const std::vector<float>& x, std::int64_t rows, std::int64_t cols) {
    const std::int64_t padded =
        static_cast<std::int64_t>(RoundUp(static_cast<std::uint64_t>(cols), 512));
    const auto size = static_cast<std::size_t>(rows * padded);
    plain.resize(size);
    split.resize(size);
    biased.resize(size);
    scales.resize(size / 32);
    sums.resize(size / 32);
    view = {plain.data(), split.data(), scales.data(), sums.data(), padded, rows, biased.data()};
    for (std::int64_t r = 0; r < rows; ++r) QuantizeActivations(x.data() + r * cols, cols, r, view);
  }
  std::vector<std::int8_t> plain, split, biased;
  std::vector<float> scales;
  std::vector<std::int32_t> sums;
  QuantizedRows view;
};

// Runs each test once for every instruction set that this machine has.
class CpuKernels : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

constexpr WeightFormat kFormats[] = {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kInt8,
                                     WeightFormat::kInt4};

TEST_P(CpuKernels, RunTheInstructionSetOfTheTest) {
  EXPECT_EQ(CpuTargetName(), hwy::TargetName(GetParam()));
}

TEST_P(CpuKernels, ScaledRowIsTheDequantizedRow) {
  for (const WeightFormat format : kFormats) {
    const TestMatrix matrix(format, 3, 352, 1);
    std::vector<float> out(352);
    for (std::int64_t row = 0; row < 3; ++row) {
      ScaledRow(ViewOf(matrix.view), row, 2.0f, out.data());
      const std::vector<float> expected = matrix.Row(row);
      for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], 2.0f * expected[i]) << i;
    }
  }
}

TEST_P(CpuKernels, FloatProductEqualsTheSlowOne) {
  constexpr std::int64_t kRows = 11;
  for (const WeightFormat format : kFormats) {
    for (const std::int64_t cols : {std::int64_t{32}, std::int64_t{352}, std::int64_t{1152}}) {
      const TestMatrix matrix(format, kRows, cols, 2);
      for (const std::int64_t tokens : {1, 2, 3, 4, 7, 13}) {
        const auto x = RandomFloats(static_cast<std::size_t>(tokens * cols), 3);
        std::vector<float> tile(static_cast<std::size_t>(kTileRows * cols));
        std::vector<float> out(static_cast<std::size_t>(tokens * kRows), -1.0f);
        FloatProduct(ViewOf(matrix.view), 1, kRows, {x.data(), cols, tokens}, tile.data(),
                     out.data(), kRows);
        for (std::int64_t r = 0; r < kRows; ++r) {
          const auto w = matrix.Row(r);
          for (std::int64_t t = 0; t < tokens; ++t) {
            double sum = 0;
            double size = 0;
            for (std::int64_t c = 0; c < cols; ++c) {
              const double product =
                  static_cast<double>(w[c]) * static_cast<double>(x[t * cols + c]);
              sum += product;
              size += std::abs(product);
            }
            const float found = out[static_cast<std::size_t>(t * kRows + r)];
            if (r == 0) {
              EXPECT_EQ(found, -1.0f) << "a row outside the range was written";
            } else {
              EXPECT_NEAR(found, sum, 1e-6 * size) << "row " << r << " token " << t;
            }
          }
        }
      }
    }
  }
}

TEST_P(CpuKernels, FloatProductHandlesOddWidths) {
  const TestMatrix matrix(WeightFormat::kBf16, 5, 37, 4);
  const auto x = RandomFloats(2 * 37, 5);
  std::vector<float> tile(kTileRows * 37);
  for (const std::int64_t tokens : {1, 2}) {
    std::vector<float> out(static_cast<std::size_t>(tokens * 5));
    FloatProduct(ViewOf(matrix.view), 0, 5, {x.data(), 37, tokens}, tile.data(), out.data(), 5);
    const auto w = matrix.Row(4);
    double sum = 0;
    for (int c = 0; c < 37; ++c) sum += static_cast<double>(w[c]) * static_cast<double>(x[c]);
    EXPECT_NEAR(out[4], sum, 1e-4);
  }
}

TEST_P(CpuKernels, QuantizedActivationsAreNearestAndPadded) {
  auto x = RandomFloats(96, 6);
  for (int i = 32; i < 64; ++i) x[i] = 0;
  const Quantized q(x, 1, 96);
  for (int g = 0; g < 16; ++g) {
    std::int32_t sum = 0;
    float most = 0;
    for (int i = 0; i < 32; ++i) {
      const int quant = q.plain[g * 32 + i];
      sum += quant;
      EXPECT_EQ(static_cast<std::uint8_t>(q.biased[g * 32 + i]), quant + 128);
      EXPECT_EQ(q.split[g / 4 * 128 + g % 4 * 16 + (i < 16 ? i : 64 + i - 16)], quant);
      if (g < 3) most = std::max(most, std::abs(x[g * 32 + i]));
      if (g < 3)
        EXPECT_NEAR(static_cast<float>(quant) * q.scales[g], x[g * 32 + i], q.scales[g] * 0.5001f);
      else
        EXPECT_EQ(quant, 0);
    }
    EXPECT_EQ(q.sums[g], sum);
    EXPECT_FLOAT_EQ(q.scales[g], most / 127.0f);
  }
}

// The definition in kernels.h, in plain C++; all instruction sets give its very bits.
float Int8Expected(const TestMatrix& matrix, std::int64_t row, const Quantized& x,
                   std::int64_t token) {
  float lanes[16] = {};
  const std::int64_t groups = matrix.view.shape.cols / 32;
  const auto* w = reinterpret_cast<const std::uint8_t*>(matrix.values.data());
  const bool int4 = matrix.view.format == WeightFormat::kInt4;
  for (std::int64_t g = 0; g < groups; ++g) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < 32; ++i) {
      const std::uint8_t byte =
          int4 ? w[(row * groups + g) * 16 + i % 16] : w[(row * groups + g) * 32 + i];
      const int weight =
          int4 ? (i < 16 ? byte & 15 : byte >> 4) - 8 : static_cast<std::int8_t>(byte);
      sum += weight * x.plain[static_cast<std::size_t>(token * x.view.cols_padded + g * 32 + i)];
    }
    std::uint16_t half = 0;
    std::memcpy(&half, &matrix.scales[static_cast<std::size_t>(row * groups + g) * 2], 2);
    volatile float scale =
        HalfToFloat(half) * x.scales[static_cast<std::size_t>(token * x.view.cols_padded / 32 + g)];
    volatile float term = scale * static_cast<float>(sum);
    lanes[g % 16] += term;
  }
  for (int step = 8; step >= 1; step /= 2) {
    for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  }
  return lanes[0];
}

TEST_P(CpuKernels, Int8ProductHasTheSameBitsEverywhere) {
  // Two tiles of 16 rows that are used together, one more, and some rows.
  constexpr std::int64_t kRows = 51;
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    for (const std::int64_t cols : {32, 96, 256, 352, 512, 1152}) {
      const TestMatrix matrix(format, kRows, cols, 7);
      const std::unique_ptr<void, decltype(&std::free)> scratch(
          std::aligned_alloc(64, RoundUp(static_cast<std::uint64_t>(Int8ScratchBytes(cols)), 64)),
          &std::free);
      for (const std::int64_t tokens : {1, 2, 3, 5, 8, 12, 18}) {
        auto x = RandomFloats(static_cast<std::size_t>(tokens * cols), 8);
        // The widest quants in every place of a group: no pair of products may saturate.
        for (std::int64_t c = 0; c < std::min<std::int64_t>(cols, 64); ++c)
          x[static_cast<std::size_t>(c)] = c < 32 ? 1.0f : -1.0f;
        const Quantized q(x, tokens, cols);
        std::vector<float> out(static_cast<std::size_t>(tokens * kRows));
        Int8Product(ViewOf(matrix.view), 0, kRows, q.view, scratch.get(), out.data(), kRows);
        for (std::int64_t r = 0; r < kRows; ++r) {
          for (std::int64_t t = 0; t < tokens; ++t) {
            ASSERT_EQ(out[static_cast<std::size_t>(t * kRows + r)], Int8Expected(matrix, r, q, t))
                << WeightFormatName(format) << " cols " << cols << " row " << r << " token " << t;
          }
        }
      }
    }
  }
}

// Row by row, and in tiles: one of 16 rows, and two together.
TEST_P(CpuKernels, Int8ProductTakesTheExtremes) {
  constexpr std::int64_t kRows = 48, kCols = 512, kTokens = 6;
  alignas(64) static std::byte scratch[Int8ScratchBytes(kCols)];
  std::vector<float> x(kTokens * kCols, 1.0f);
  for (std::size_t i = 256; i < x.size(); ++i) x[i] = i % 512 < 256 ? 1.0f : -1.0f;
  // Nibbles of -8 and of 7 are the bytes 0 and 0xff.
  for (const auto& [format, value] : {std::pair{WeightFormat::kInt8, -128},
                                      {WeightFormat::kInt8, -127},
                                      {WeightFormat::kInt8, 127},
                                      {WeightFormat::kInt4, 0},
                                      {WeightFormat::kInt4, 0xff}}) {
    TestMatrix matrix(format, kRows, kCols, 9);
    std::fill(matrix.values.begin(), matrix.values.end(), static_cast<std::byte>(value));
    for (const std::int64_t tokens : {std::int64_t{1}, kTokens}) {
      const Quantized q(x, tokens, kCols);
      std::vector<float> out(static_cast<std::size_t>(tokens * kRows));
      Int8Product(ViewOf(matrix.view), 0, kRows, q.view, scratch, out.data(), kRows);
      for (std::int64_t i = 0; i < tokens * kRows; ++i) {
        EXPECT_EQ(out[static_cast<std::size_t>(i)], Int8Expected(matrix, i % kRows, q, i / kRows))
            << WeightFormatName(format) << " of " << value << ", value " << i;
      }
    }
  }
}

TEST_P(CpuKernels, NormsAndGeGlu) {
  for (const std::int64_t n : {16, 37, 352}) {
    const auto x = RandomFloats(static_cast<std::size_t>(n), 10);
    const auto w = RandomFloats(static_cast<std::size_t>(n), 11);
    const auto base = RandomFloats(static_cast<std::size_t>(n), 12);
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
    std::vector<float> normed(x.size());
    std::vector<float> added(x.size());
    RmsNormRow(x.data(), w.data(), n, 1e-6f, normed.data());
    AddRmsNormRow(base.data(), x.data(), w.data(), n, 1e-6f, added.data());
    std::vector<float> gate = x;
    gate[0] = 1000.0f;
    gate[1] = -1000.0f;
    const std::vector<float> before = gate;
    GeGluRow(gate.data(), w.data(), n);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = x[i] * scale * w[i];
      EXPECT_NEAR(normed[i], expected, 1e-5);
      EXPECT_NEAR(added[i], base[i] + expected, 1e-5);
      const double g = before[i];
      const double gelu =
          0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
      EXPECT_NEAR(gate[i], gelu * w[i], 2e-6 * (1 + std::abs(gelu * w[i]))) << g;
    }
  }
}

TEST_P(CpuKernels, RotateTurnsPairs) {
  for (const std::int64_t n : {16, 32, 256}) {
    const auto x = RandomFloats(static_cast<std::size_t>(n), 13);
    std::vector<float> cosines, sines;
    for (int i = 0; i < n / 2; ++i) {
      cosines.push_back(std::cos(static_cast<float>(i)));
      sines.push_back(std::sin(static_cast<float>(i)));
    }
    auto y = x;
    RotateRow(y.data(), cosines.data(), sines.data(), n, 0.5f);
    for (std::int64_t i = 0; i < n / 2; ++i) {
      EXPECT_NEAR(y[i], 0.5f * (x[i] * cosines[i] - x[i + n / 2] * sines[i]), 1e-6);
      EXPECT_NEAR(y[i + n / 2], 0.5f * (x[i + n / 2] * cosines[i] + x[i] * sines[i]), 1e-6);
    }
  }
}

// Rows as a cache of int8 holds them.
void RoundRowsToInt8(std::int64_t n, std::vector<float>* rows) {
  for (auto row = rows->begin(); row != rows->end(); row += n) {
    float largest = 0;
    for (auto x = row; x != row + n; ++x) largest = std::max(largest, std::abs(*x));
    for (auto x = row; x != row + n; ++x)
      *x = std::nearbyint(*x * (127 / largest)) * (largest / 127);
  }
}

TEST_P(CpuKernels, AttendIsSoftmaxOverItsPositions) {
  constexpr std::int64_t kDim = 48;
  for (const KvType type : {KvType::kFloat32, KvType::kFloat16, KvType::kInt8}) {
    // Three logical blocks in another order of physical ones.
    const std::int32_t blocks[] = {2, 0, 1};
    std::vector<float> keys = RandomFloats(48 * kDim, 14);
    std::vector<float> values = RandomFloats(48 * kDim, 15);
    std::vector<std::byte> key_cache(48 * kDim * 4), value_cache(48 * kDim * 4);
    for (std::int64_t p = 0; p < 48; ++p) {
      const std::int64_t block = blocks[p / 16] * KvHeadBytes(kDim, type);
      StoreKv(keys.data() + p * kDim, kDim, type, key_cache.data() + block, p % 16);
      StoreKv(values.data() + p * kDim, kDim, type, value_cache.data() + block, p % 16);
    }
    if (type == KvType::kInt8) {
      RoundRowsToInt8(kDim, &keys);
      RoundRowsToInt8(kDim, &values);
    }
    auto query = RandomFloats(kDim, 16);
    // Sharp: the largest score moves from block to block.
    for (float& v : query) v *= 3;
    const std::pair<std::int64_t, std::int64_t> ranges[] = {
        {0, 0}, {0, 47}, {3, 40}, {16, 31}, {17, 17}};
    for (const auto& [first, last] : ranges) {
      std::vector<float> out(kDim);
      Attend({query.data(), out.data(), 1, key_cache.data(), value_cache.data(),
              KvHeadBytes(kDim, type), blocks, first, last, kDim, type});
      std::vector<double> expected(kDim), weights;
      double total = 0;
      for (std::int64_t p = first; p <= last; ++p) {
        double score = 0;
        for (std::int64_t i = 0; i < kDim; ++i)
          score += static_cast<double>(query[i]) * keys[p * kDim + i];
        weights.push_back(std::exp(score - 30));
        total += weights.back();
      }
      for (std::int64_t p = first; p <= last; ++p) {
        for (std::int64_t i = 0; i < kDim; ++i)
          expected[i] += weights[p - first] / total * values[p * kDim + i];
      }
      const double bound = type == KvType::kFloat16 ? 3e-2 : 1e-4;
      for (std::int64_t i = 0; i < kDim; ++i)
        EXPECT_NEAR(out[i], expected[i], bound) << first << " to " << last;
    }
  }
}

TEST_P(CpuKernels, HeadsThatShareKeysHaveTheBitsOfOneAlone) {
  constexpr std::int64_t kDim = 32, kHeads = 7;
  const std::int32_t blocks[] = {1, 0};
  const std::vector<float> keys = RandomFloats(32 * kDim, 17);
  const std::vector<float> values = RandomFloats(32 * kDim, 18);
  const std::vector<float> queries = RandomFloats(kHeads * kDim, 19);
  for (const KvType type : {KvType::kFloat32, KvType::kFloat16, KvType::kInt8}) {
    std::vector<std::byte> key_cache(32 * kDim * 4), value_cache(32 * kDim * 4);
    for (std::int64_t p = 0; p < 32; ++p) {
      const std::int64_t block = p / 16 * KvHeadBytes(kDim, type);
      StoreKv(keys.data() + p * kDim, kDim, type, key_cache.data() + block, p % 16);
      StoreKv(values.data() + p * kDim, kDim, type, value_cache.data() + block, p % 16);
    }
    std::vector<float> together(kHeads * kDim), alone(kHeads * kDim);
    AttendJob job{queries.data(),
                  together.data(),
                  kHeads,
                  key_cache.data(),
                  value_cache.data(),
                  KvHeadBytes(kDim, type),
                  blocks,
                  2,
                  29,
                  kDim,
                  type};
    Attend(job);
    job.heads = 1;
    for (std::int64_t h = 0; h < kHeads; ++h) {
      job.query = queries.data() + h * kDim;
      job.out = alone.data() + h * kDim;
      Attend(job);
    }
    EXPECT_EQ(together, alone);
  }
}

// A row of zeros has a scale of zero, and the largest magnitude is kept to the last bit.
TEST_P(CpuKernels, Int8RowsKeepTheirLargestValueAndZeros) {
  constexpr std::int64_t kDim = 32;
  std::vector<float> row(kDim);
  std::vector<std::byte> head(static_cast<std::size_t>(KvHeadBytes(kDim, KvType::kInt8)));
  const auto* scales = reinterpret_cast<const float*>(head.data() + 16 * kDim);
  const auto* values = reinterpret_cast<const std::int8_t*>(head.data());
  StoreKv(row.data(), kDim, KvType::kInt8, head.data(), 3);
  EXPECT_EQ(scales[3], 0);
  EXPECT_TRUE(std::all_of(values + 3 * kDim, values + 4 * kDim, [](auto v) { return v == 0; }));
  row[5] = -254;
  row[6] = 3;
  StoreKv(row.data(), kDim, KvType::kInt8, head.data(), 15);
  EXPECT_EQ(scales[15], 2);
  EXPECT_EQ(values[15 * kDim + 5], -127);
  EXPECT_EQ(values[15 * kDim + 6], 2);
  EXPECT_EQ(values[15 * kDim], 0);
}

std::vector<std::int64_t> Targets() {
  std::vector<std::int64_t> targets;
  const std::int64_t compiled = HWY_STATIC_TARGET | HWY_SSE4 | HWY_AVX2 | HWY_AVX3_DL | HWY_NEON;
  for (std::int64_t bit = 0; bit < 63; ++bit) {
    const std::int64_t target = std::int64_t{1} << bit;
    if ((target & compiled & (hwy::SupportedTargets() | HWY_STATIC_TARGET)) != 0)
      targets.push_back(target);
  }
  return targets;
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuKernels, testing::ValuesIn(Targets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace tandem
