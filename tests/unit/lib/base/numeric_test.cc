#include "lib/base/numeric.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace tandem {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The value of a half by the definition of the format.
double ExactHalf(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31)
    return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST(NumericTest, EveryHalfGoesThereAndBack) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(ExactHalf(half)));
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value))));
      continue;
    }
    EXPECT_EQ(value, static_cast<float>(ExactHalf(half)));
    EXPECT_EQ(FloatToHalf(value), half);
  }
}

// The nearest half by searching all; ties to the even one.
std::uint16_t NearestHalf(float value) {
  std::uint16_t best = 0;
  double distance = std::numeric_limits<double>::infinity();
  for (std::uint32_t bits = 0; bits <= 0x7c00; ++bits) {
    // For rounding, infinity stands where the next number would: at 65536.
    const double candidate = bits == 0x7c00 ? 65536.0 : ExactHalf(static_cast<std::uint16_t>(bits));
    const double d = std::abs(candidate - std::abs(static_cast<double>(value)));
    if (d < distance || (d == distance && (bits & 1) == 0)) {
      best = static_cast<std::uint16_t>(bits);
      distance = d;
    }
  }
  return static_cast<std::uint16_t>(best | (std::signbit(value) ? 0x8000 : 0));
}

TEST(NumericTest, FloatToHalfRoundsToNearestEven) {
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const float value = std::ldexp(std::uniform_real_distribution<float>(-1, 1)(random),
                                   static_cast<int>(random() % 44) - 27);
    EXPECT_EQ(FloatToHalf(value), NearestHalf(value)) << value;
  }
  for (const float value : {65519.0f, 65520.0f, 65504.0f, 1e30f, 0x1p-25f, 0x1.8p-25f,
                            0x1.000002p-25f, 0x1p-14f, 0x1.ffep-15f, 0x1.ffcp-15f, 1.0f + 0x1p-11f,
                            1.0f + 0x3p-11f, -0.0f, 0x1p-24f, 0x1.8p-24f, 0x1p-30f}) {
    EXPECT_EQ(FloatToHalf(value), NearestHalf(value)) << value;
  }
  EXPECT_EQ(FloatToHalf(kInfinity), 0x7c00);
  EXPECT_EQ(FloatToHalf(-kInfinity), 0xfc00);
}

TEST(NumericTest, Bf16KeepsTheUpperHalfRounded) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f), 0x3f80);  // a tie goes to the even one below
  EXPECT_EQ(FloatToBf16(1.0f + 0x3p-8f), 0x3f82);  // and to the even one above
  EXPECT_EQ(FloatToBf16(1.0f + 0x1.01p-8f), 0x3f81);
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(FloatToBf16(-kInfinity), 0xff80);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::nanf("1")))));
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = Bf16ToFloat(static_cast<std::uint16_t>(bits));
    if (!std::isnan(value)) {
      EXPECT_EQ(FloatToBf16(value), bits);
    }
  }
}

TEST(NumericTest, RoundingUp) {
  EXPECT_EQ(RoundUp(0, 4096), 0u);
  EXPECT_EQ(RoundUp(1, 4096), 4096u);
  EXPECT_EQ(RoundUp(4096, 4096), 4096u);
  EXPECT_EQ(CeilDiv(7, 3), 3u);
  EXPECT_EQ(CeilDiv(6, 3), 2u);
}

}  // namespace
}  // namespace tandem
