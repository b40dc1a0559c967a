#include "loader/pack/pack_rows.h"

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "lib/weights/quantize.h"
#include "lib/weights/region.h"

namespace tandem {
namespace {

constexpr std::int64_t kRows = 3;
constexpr std::int64_t kCols = 256;

// Random raw rows of a type, with sound scales.
std::vector<std::byte> RandomRaw(SourceType type) {
  std::mt19937 engine(11);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<std::byte> raw(RowBytesOf(type, kCols) * kRows);
  for (std::byte& b : raw) b = static_cast<std::byte>(engine());
  const BlockSize block = BlockSizeOf(type);
  for (std::size_t at = 0; at < raw.size(); at += static_cast<std::size_t>(block.bytes)) {
    const float value = normal(engine);
    const std::uint16_t half = FloatToHalf(value), bf16 = FloatToBf16(value);
    switch (type) {
      case SourceType::kF32:
        std::memcpy(&raw[at], &value, 4);
        break;
      case SourceType::kF16:
        std::memcpy(&raw[at], &half, 2);
        break;
      case SourceType::kBf16:
        std::memcpy(&raw[at], &bf16, 2);
        break;
      case SourceType::kQ6K:
        std::memcpy(&raw[at + 208], &half, 2);
        break;
      case SourceType::kQ4K:
      case SourceType::kQ5K:
        std::memcpy(&raw[at + 2], &half, 2);
        [[fallthrough]];
      default:
        std::memcpy(&raw[at], &half, 2);
    }
  }
  return raw;
}

struct Packed {
  std::vector<std::byte> values, scales;
  bool ok = false;
  std::vector<float> floats;
};

Packed Pack(const PackJob& job, const std::vector<std::byte>& raw) {
  Packed p;
  const RowBytes row = RowBytesOf(job.target, kCols);
  p.values.resize(row.values * kRows);
  p.scales.resize(row.scales * kRows);
  std::vector<float> scratch;
  p.ok = PackRows(job, raw, p.values, p.scales, scratch);
  p.floats.resize(kRows * kCols);
  const TensorView view{{kRows, kCols}, job.target, p.values, p.scales};
  for (std::int64_t r = 0; r < kRows; ++r) {
    DequantizeRow(view, r, std::span(p.floats).subspan(static_cast<std::size_t>(r * kCols), kCols));
  }
  return p;
}

std::vector<float> Floats(SourceType type, const std::vector<std::byte>& raw) {
  std::vector<float> floats(kRows * kCols);
  DequantizeSource(type, raw, floats);
  return floats;
}

struct Pair {
  SourceType source;
  WeightFormat target;
};
class LosslessPairs : public ::testing::TestWithParam<Pair> {};

TEST_P(LosslessPairs, DequantiseToTheSameValues) {
  const std::vector<std::byte> raw = RandomRaw(GetParam().source);
  const Packed packed = Pack({GetParam().source, GetParam().target, kCols, 0}, raw);
  EXPECT_TRUE(packed.ok);
  EXPECT_EQ(packed.floats, Floats(GetParam().source, raw));
}

INSTANTIATE_TEST_SUITE_P(All, LosslessPairs,
                         ::testing::Values(Pair{SourceType::kQ8_0, WeightFormat::kInt8},
                                           Pair{SourceType::kQ5_0, WeightFormat::kInt8},
                                           Pair{SourceType::kQ4_0, WeightFormat::kInt8},
                                           Pair{SourceType::kQ4_0, WeightFormat::kInt4},
                                           Pair{SourceType::kBf16, WeightFormat::kBf16},
                                           Pair{SourceType::kF32, WeightFormat::kF32},
                                           Pair{SourceType::kF16, WeightFormat::kF32},
                                           Pair{SourceType::kBf16, WeightFormat::kF32}),
                         [](const auto& info) {
                           return std::string(SourceTypeName(info.param.source)) + "_" +
                                  std::string(WeightFormatName(info.param.target));
                         });

// Every other pair equals the floats, quantised row by row.
TEST(PackRows, OtherPairsGoThroughFloats) {
  for (const SourceType source :
       {SourceType::kF32, SourceType::kF16, SourceType::kBf16, SourceType::kQ8_0, SourceType::kQ5_0,
        SourceType::kQ4_0, SourceType::kQ4K, SourceType::kQ5K, SourceType::kQ6K}) {
    const std::vector<std::byte> raw = RandomRaw(source);
    const std::vector<float> floats = Floats(source, raw);
    for (const WeightFormat target :
         {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
      const bool block32 =
          source == SourceType::kQ8_0 || source == SourceType::kQ5_0 || source == SourceType::kQ4_0;
      if (block32 && (target == WeightFormat::kInt8 || target == WeightFormat::kInt4)) continue;
      const Packed packed = Pack({source, target, kCols, 0}, raw);
      ASSERT_TRUE(packed.ok) << SourceTypeName(source);
      const RowBytes row = RowBytesOf(target, kCols);
      std::vector<std::byte> values(row.values * kRows), scales(row.scales * kRows);
      for (std::size_t r = 0; r < kRows; ++r) {
        ASSERT_TRUE(QuantizeRow(std::span(floats).subspan(r * kCols, kCols), target,
                                std::span(values).subspan(r * row.values, row.values),
                                std::span(scales).subspan(r * row.scales, row.scales)));
      }
      EXPECT_EQ(packed.values, values) << SourceTypeName(source) << " " << WeightFormatName(target);
      EXPECT_EQ(packed.scales, scales);
    }
  }
}

TEST(PackRows, OffsetIsAddedBeforeAnythingElse) {
  const std::vector<std::byte> raw = RandomRaw(SourceType::kBf16);
  const std::vector<float> floats = Floats(SourceType::kBf16, raw);
  const Packed packed = Pack({SourceType::kBf16, WeightFormat::kF32, kCols, 1.0f}, raw);
  for (std::size_t i = 0; i < floats.size(); ++i) EXPECT_EQ(packed.floats[i], 1.0f + floats[i]);
  EXPECT_FALSE(IsVerbatim({SourceType::kF32, WeightFormat::kF32, kCols, 1.0f}));
  EXPECT_TRUE(IsVerbatim({SourceType::kF32, WeightFormat::kF32, kCols, 0.0f}));
}

TEST(PackRows, NanAndInfiniteValuesAndScalesAreFound) {
  const std::uint16_t half_inf = 0x7c00, half_nan = 0x7e00, bf16_nan = 0x7fc0;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto broken = [](SourceType type, std::size_t at, const void* bytes, std::size_t size) {
    std::vector<std::byte> raw = RandomRaw(type);
    std::memcpy(raw.data() + raw.size() - static_cast<std::size_t>(BlockSizeOf(type).bytes) + at,
                bytes, size);
    return raw;
  };
  for (const WeightFormat target :
       {WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    EXPECT_FALSE(
        Pack({SourceType::kF32, target, kCols, 0}, broken(SourceType::kF32, 0, &nan, 4)).ok);
    EXPECT_FALSE(
        Pack({SourceType::kF16, target, kCols, 0}, broken(SourceType::kF16, 0, &half_inf, 2)).ok);
    EXPECT_FALSE(
        Pack({SourceType::kBf16, target, kCols, 0}, broken(SourceType::kBf16, 0, &bf16_nan, 2)).ok);
    for (const SourceType type : {SourceType::kQ8_0, SourceType::kQ5_0, SourceType::kQ4_0,
                                  SourceType::kQ4K, SourceType::kQ5K}) {
      EXPECT_FALSE(Pack({type, target, kCols, 0}, broken(type, 0, &half_nan, 2)).ok)
          << SourceTypeName(type);
      EXPECT_FALSE(Pack({type, target, kCols, 0}, broken(type, 0, &half_inf, 2)).ok)
          << SourceTypeName(type);
    }
    EXPECT_FALSE(
        Pack({SourceType::kQ6K, target, kCols, 0}, broken(SourceType::kQ6K, 208, &half_inf, 2)).ok);
    EXPECT_FALSE(
        Pack({SourceType::kQ4K, target, kCols, 0}, broken(SourceType::kQ4K, 2, &half_nan, 2)).ok);
  }
}

}  // namespace
}  // namespace tandem
