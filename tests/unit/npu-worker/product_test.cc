// The product's kernels, compiled for the host, behind their packer and their instructions: on a
// model of the array, against the CPU device's int8 arithmetic.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "lib/device/cpu/kernels.h"
#include "npu-worker/product/product_layout.h"
#include "npu-worker/product/product_sequence.h"
#include "tests/unit/npu-worker/array_call.h"

namespace tandem::npu {
namespace {

using Bytes = std::unique_ptr<std::byte[], void (*)(void*)>;
Bytes AlignedBytes(std::uint64_t bytes) {
  return {static_cast<std::byte*>(std::aligned_alloc(64, RoundUp(bytes, 64))), std::free};
}

// A matrix as a region holds it and activations as the CPU device quantises them.
struct Operands {
  ProductShape shape;
  std::vector<std::uint8_t> values;
  std::vector<std::uint16_t> scales;
  std::vector<std::int8_t> plain, split, biased;
  std::vector<float> x_scales;
  std::vector<std::int32_t> x_sums;
  QuantizedRows rows;

  MatrixView view() const {
    return {shape.int4 ? WeightFormat::kInt4 : WeightFormat::kInt8, shape.rows, shape.columns,
            values.data(), scales.data()};
  }
};

Operands RandomOperands(const ProductShape& shape, std::uint32_t seed) {
  std::mt19937 random(seed);
  Operands o;
  o.shape = shape;
  o.values.resize(shape.rows * shape.columns / (shape.int4 ? 2 : 1));
  // Every byte: int8 weights of -128 are among them, as Q8_0 files may have.
  for (std::uint8_t& v : o.values) v = static_cast<std::uint8_t>(random());
  o.scales.resize(shape.rows * shape.columns / 32);
  // Scales of either sign, as Q4_0 files have.
  for (std::uint16_t& s : o.scales) {
    s = FloatToHalf((static_cast<float>(random() % 2000) - 1000) * 1e-5f);
  }
  const std::int64_t padded = RoundUp(shape.columns, 32 * kChunkGroups);
  o.plain.resize(shape.tokens * padded);
  o.split.resize(shape.tokens * padded);
  o.biased.resize(shape.tokens * padded);
  o.x_scales.resize(shape.tokens * padded / 32);
  o.x_sums.resize(shape.tokens * padded / 32);
  o.rows = {o.plain.data(), o.split.data(), o.x_scales.data(), o.x_sums.data(),
            padded,         shape.tokens,   o.biased.data()};
  std::normal_distribution<float> normal;
  std::vector<float> x(shape.columns);
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    for (float& v : x) v = normal(random);
    QuantizeActivations(x.data(), shape.columns, t, o.rows);
  }
  return o;
}

// The product on the model of the array.
std::vector<float> OnArray(const ArrayShape& array, const Operands& o) {
  const auto layout = ProductLayout::Make(array, o.shape);
  EXPECT_TRUE(layout.ok()) << layout.status();
  ArrayCall call({layout->weight_bytes(), layout->activation_bytes(), layout->output_bytes()});
  PackWeights(*layout, o.values.data(), o.scales.data(), call.buffer(0));
  PackActivations(*layout, o.shape.tokens,
                  {o.plain.data(), o.rows.cols_padded, o.x_scales.data(), o.rows.cols_padded / 32},
                  call.buffer(1));
  const auto words = ProductInstructions(*layout, kModelParameterAddress);
  EXPECT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(call.Run(array, ProductDesign(array, o.shape.int4), *words), "");
  std::vector<float> result(o.shape.tokens * o.shape.rows);
  UnpackOutput(*layout, o.shape.tokens, call.buffer(2), result.data(), o.shape.rows);
  return result;
}

std::vector<float> OnCpu(const Operands& o) {
  std::vector<float> result(o.shape.tokens * o.shape.rows);
  const Bytes scratch = AlignedBytes(Int8ScratchBytes(o.shape.columns));
  Int8Product(o.view(), 0, o.shape.rows, o.rows, scratch.get(), result.data(), o.shape.rows);
  return result;
}

std::int32_t Weight(const Operands& o, std::int64_t row, std::int64_t column) {
  if (!o.shape.int4) return static_cast<std::int8_t>(o.values[row * o.shape.columns + column]);
  const std::int64_t group = row * o.shape.columns / 32 + column / 32;
  const std::uint8_t byte = o.values[group * 16 + column % 16];
  return (column % 32 < 16 ? byte & 15 : byte >> 4) - 8;
}

// The slow, obvious twin, in the kernel's order of groups.
float Twin(const Operands& o, std::int64_t token, std::int64_t row) {
  float total = 0;
  for (std::int64_t g = 0; g < o.shape.columns / 32; ++g) {
    std::int32_t sum = 0;
    for (std::int64_t c = g * 32; c < g * 32 + 32; ++c) {
      sum += Weight(o, row, c) * o.plain[token * o.rows.cols_padded + c];
    }
    const float scale = HalfToFloat(o.scales[row * (o.shape.columns / 32) + g]) *
                        o.x_scales[token * (o.rows.cols_padded / 32) + g];
    const float term = scale * static_cast<float>(sum);
    total += term;
  }
  return total;
}

struct Case {
  ArrayShape array;
  bool int4;
};
class NpuProductTest : public ::testing::TestWithParam<Case> {};

void ExpectSameBits(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]), std::bit_cast<std::uint32_t>(expected[i]))
        << i << ": " << found[i] << " and " << expected[i];
  }
}

TEST_P(NpuProductTest, EachGroupsTermHasTheCpuDevicesBits) {
  // A row of one group is one term: integer sum, product of the scales and their product.
  const Operands o = RandomOperands({37, 32, 13, GetParam().int4}, 1);
  std::vector<float> expected = OnCpu(o);
  // The kernel adds its term to +0.
  for (float& v : expected) v += 0.0f;
  ExpectSameBits(OnArray(GetParam().array, o), expected);
}

TEST_P(NpuProductTest, IntegerSumsOfWholeRowsHaveTheCpuDevicesBits) {
  // With scales of one all sums stay below 2^24: the order of additions does not matter.
  Operands o = RandomOperands({301, 416, 70, GetParam().int4}, 2);
  for (std::uint16_t& s : o.scales) s = FloatToHalf(1.0f);
  for (float& s : o.x_scales) s = 1.0f;
  ExpectSameBits(OnArray(GetParam().array, o), OnCpu(o));
}

TEST_P(NpuProductTest, OddShapesHaveTheTwinsBitsAndComeCloseToTheCpuDevices) {
  const Operands o = RandomOperands({65, 1056, 9, GetParam().int4}, 3);
  const std::vector<float> found = OnArray(GetParam().array, o);
  const std::vector<float> cpu = OnCpu(o);
  for (std::int64_t t = 0; t < o.shape.tokens; ++t) {
    for (std::int64_t r = 0; r < o.shape.rows; ++r) {
      const float value = found[t * o.shape.rows + r];
      ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(Twin(o, t, r)));
      // The CPU device adds in another order; the sum of magnitudes is below 100.
      ASSERT_NEAR(value, cpu[t * o.shape.rows + r], 1e-4);
    }
  }
}

TEST_P(NpuProductTest, TheLargestSumsOfAGroupAreExact) {
  Operands o = RandomOperands({64, 32, 64, GetParam().int4}, 4);
  // -128 or -8 everywhere; int4's nibble 0 is -8.
  for (std::uint8_t& v : o.values) v = GetParam().int4 ? 0 : 0x80;
  for (std::int8_t& q : o.plain) q = 127;
  for (std::int8_t& q : o.split) q = 127;
  // 255 as an unsigned byte.
  for (std::int8_t& q : o.biased) q = -1;
  for (std::int32_t& s : o.x_sums) s = 127 * 32;
  for (std::uint16_t& s : o.scales) s = FloatToHalf(1.0f);
  for (float& s : o.x_scales) s = 1.0f;
  const std::vector<float> found = OnArray(GetParam().array, o);
  EXPECT_EQ(found.front(), -127.0f * 32 * (GetParam().int4 ? 8 : 128));
  ExpectSameBits(found, OnCpu(o));
}

TEST_P(NpuProductTest, SeveralBlocksOfRowsAndTokensFindTheirPlaces) {
  const ArrayShape array = GetParam().array;
  const Operands o = RandomOperands(
      {array.rows * kTileRows * 2 + 1, 32, array.columns * kTileTokens * 2 + 1, GetParam().int4},
      5);
  std::vector<float> expected = OnCpu(o);
  for (float& v : expected) v += 0.0f;
  ExpectSameBits(OnArray(array, o), expected);
}

INSTANTIATE_TEST_SUITE_P(Generations, NpuProductTest,
                         ::testing::Values(Case{kAie2Array, false}, Case{kAie2Array, true},
                                           Case{kAie2pArray, false}, Case{kAie2pArray, true}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.array == kAie2Array ? "Aie2" : "Aie2p",
                                               info.param.int4 ? "Int4" : "Int8");
                         });

TEST(NpuProductLayoutTest, RefusesShapesThatCannotBe) {
  for (const ProductShape& shape :
       {ProductShape{0, 32, 1}, ProductShape{1, 33, 1}, ProductShape{1, 32, 0},
        ProductShape{1, 0, 1}, ProductShape{256 * 256 + 1, 32, 1},
        ProductShape{1, 32, std::int64_t{1} << 40}, ProductShape{std::int64_t{1} << 62, 32, 1}}) {
    const auto layout = ProductLayout::Make(kAie2Array, shape);
    EXPECT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument) << shape.rows;
  }
  EXPECT_TRUE(ProductLayout::Make(kAie2Array, {256 * 256, 32, 1}).ok());
}

TEST(NpuProductLayoutTest, BuffersPastAnAddressPatchAreRefused) {
  const auto layout = ProductLayout::Make(kAie2Array, {65536, 86016, 1});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(ProductInstructions(*layout, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

// The memory that the design takes is what tile_shape.h says, and it fits.
TEST(NpuTileBudgetTest, FitsTheTiles) {
  EXPECT_EQ(CoreMemoryNeeded(false), 2048 + 64 + 2 * (8192 + 1024) + 2 * (8192 + 1024) + 16384);
  EXPECT_EQ(CoreMemoryNeeded(true), 2048 + 64 + 2 * (4096 + 1024) + 2 * (8192 + 1024) + 16384);
  EXPECT_LE(CoreMemoryNeeded(false), 65536U);
  EXPECT_EQ(MemoryTileNeeded(kAie2Array, false), 2 * (9216 + 9216 + 4 * 16384));
  EXPECT_LE(MemoryTileNeeded(kAie2pArray, false), 524288U);
}

}  // namespace
}  // namespace tandem::npu
