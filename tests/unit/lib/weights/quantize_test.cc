#include "lib/weights/quantize.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "lib/weights/region.h"

namespace tandem {
namespace {

struct Packed {
  std::vector<std::byte> values, scales;
  TensorView view;
};

Packed Pack(const std::vector<float>& row, WeightFormat format, bool expect_ok = true) {
  Packed packed;
  const RowBytes bytes = RowBytesOf(format, static_cast<std::int64_t>(row.size()));
  packed.values.resize(bytes.values);
  packed.scales.resize(bytes.scales);
  EXPECT_EQ(QuantizeRow(row, format, packed.values, packed.scales), expect_ok);
  packed.view = {{1, static_cast<std::int64_t>(row.size())}, format, packed.values, packed.scales};
  return packed;
}

std::vector<float> Unpack(const Packed& packed) {
  std::vector<float> out(static_cast<std::size_t>(packed.view.shape.cols));
  DequantizeRow(packed.view, 0, out);
  return out;
}

std::vector<float> RandomFloats(std::size_t n, float scale, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> row(n);
  for (float& v : row) v = normal(engine);
  return row;
}

// The definition, in double precision, one value at a time: the best quant for the scale that was
// stored.
void ExpectNearestQuants(const std::vector<float>& row, const Packed& packed, int low, int high) {
  const std::vector<float> found = Unpack(packed);
  for (std::size_t i = 0; i < row.size(); ++i) {
    std::uint16_t half;
    std::memcpy(&half, packed.scales.data() + i / 32 * 2, 2);
    const double scale = HalfToFloat(half);
    double best = std::numeric_limits<double>::infinity();
    for (int q = low; q <= high; ++q) best = std::min(best, std::fabs(q * scale - row[i]));
    EXPECT_NEAR(std::fabs(found[i] - row[i]), best, std::fabs(scale) * 1e-5) << i;
  }
}

TEST(QuantizeRow, Int8ScaleIsAbsmaxOver127AndQuantsAreNearest) {
  for (const float magnitude : {1e-3f, 0.02f, 1.0f, 1000.0f}) {
    const std::vector<float> row = RandomFloats(32 * 17, magnitude, 7);
    const Packed packed = Pack(row, WeightFormat::kInt8);
    ExpectNearestQuants(row, packed, -127, 127);
    for (std::size_t group = 0; group < 17; ++group) {
      float largest = 0;
      for (std::size_t i = 0; i < 32; ++i)
        largest = std::max(largest, std::fabs(row[group * 32 + i]));
      std::uint16_t half;
      std::memcpy(&half, packed.scales.data() + group * 2, 2);
      EXPECT_NEAR(HalfToFloat(half), largest / 127, largest / 127 * 2e-2) << group;
    }
  }
}

TEST(QuantizeRow, Int4ScaleHasTheOppositeSignOfTheExtreme) {
  const std::vector<float> row = RandomFloats(32 * 17, 0.02f, 8);
  const Packed packed = Pack(row, WeightFormat::kInt4);
  ExpectNearestQuants(row, packed, -8, 7);
  for (std::size_t group = 0; group < 17; ++group) {
    float extreme = 0;
    for (std::size_t i = 0; i < 32; ++i) {
      if (std::fabs(row[group * 32 + i]) > std::fabs(extreme)) extreme = row[group * 32 + i];
    }
    std::uint16_t half;
    std::memcpy(&half, packed.scales.data() + group * 2, 2);
    EXPECT_EQ(half, FloatToHalf(extreme / -8)) << group;
  }
}

TEST(QuantizeRow, Q80AndQ40ValuesRoundTrip) {
  std::mt19937 engine(3);
  for (int round = 0; round < 200; ++round) {
    const float d = HalfToFloat(static_cast<std::uint16_t>(engine() % 0x7bff)) / 256;
    const float scale = HalfToFloat(FloatToHalf(d));
    std::vector<float> eight(32), four(32);
    for (std::size_t i = 0; i < 32; ++i) {
      eight[i] = static_cast<float>(static_cast<int>(engine() % 255) - 127) * scale;
      four[i] = static_cast<float>(static_cast<int>(engine() % 16) - 8) * -scale;
    }
    eight[5] = -127 * scale;
    four[9] = -8 * -scale;
    EXPECT_EQ(Unpack(Pack(eight, WeightFormat::kInt8)), eight) << scale;
    EXPECT_EQ(Unpack(Pack(four, WeightFormat::kInt4)), four) << scale;
  }
}

TEST(QuantizeRow, Int4NibbleOrder) {
  std::vector<float> row(32);
  for (std::size_t i = 0; i < 16; ++i) {
    row[i] = static_cast<float>(i) - 8;            // low nibbles 0..15
    row[i + 16] = static_cast<float>(15 - i) - 8;  // high nibbles 15..0
  }
  const Packed packed = Pack(row, WeightFormat::kInt4);
  EXPECT_EQ(packed.scales[0], std::byte{0x00});
  EXPECT_EQ(packed.scales[1], std::byte{0x3c});  // 1.0
  for (std::size_t i = 0; i < 16; ++i)
    EXPECT_EQ(packed.values[i], static_cast<std::byte>(i | (15 - i) << 4));
}

TEST(QuantizeRow, ZerosAndTinyAndHugeValues) {
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    EXPECT_EQ(Unpack(Pack(std::vector<float>(64, 0.0f), format)), std::vector<float>(64, 0.0f));
    std::vector<float> tiny(32, 1e-7f);
    tiny[0] = -1.2e-6f;
    const std::vector<float> back = Unpack(Pack(tiny, format));
    EXPECT_NEAR(back[0], tiny[0], 2e-7f);
    std::vector<float> huge(32, 1e7f);
    Pack(huge, format, /*expect_ok=*/false);  // the scale would be over 65504
    std::vector<float> large(32, 5e5f);
    EXPECT_NEAR(Unpack(Pack(large, format))[3], 5e5f,
                5e5f / (format == WeightFormat::kInt4 ? 8 : 100));
  }
}

TEST(QuantizeRow, Bf16RoundsToNearestEven) {
  const std::vector<float> row = RandomFloats(31, 1.0f, 9);
  const Packed packed = Pack(row, WeightFormat::kBf16);
  for (std::size_t i = 0; i < row.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, packed.values.data() + i * 2, 2);
    EXPECT_EQ(bits, FloatToBf16(row[i]));
  }
}

TEST(QuantizeRow, RefusesWhatIsNotFinite) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const WeightFormat format :
       {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    for (const float bad : {inf, -inf, std::nanf("")}) {
      std::vector<float> row(96, 0.5f);
      row[77] = bad;
      Pack(row, format, false);
    }
  }
  Pack({3.4e38f}, WeightFormat::kBf16, false);  // rounds to infinity
  Pack({3.4e38f}, WeightFormat::kF32, true);
}

TEST(AllFinite, SixteenBits) {
  std::vector<std::uint16_t> bf16(100, FloatToBf16(-3.0f)), half(100, FloatToHalf(65504.0f));
  EXPECT_TRUE(AllFiniteBf16(bf16));
  EXPECT_TRUE(AllFiniteHalf(half));
  bf16[99] = 0xff80;
  half[50] = 0x7c01;
  EXPECT_FALSE(AllFiniteBf16(bf16));
  EXPECT_FALSE(AllFiniteHalf(half));
}

}  // namespace
}  // namespace tandem
