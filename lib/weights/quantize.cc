#include "lib/weights/quantize.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::size_t kGroup = kGroupSize;
constexpr float kMaxHalf = 65504.0f;

// The exponent bits are all ones for NaN and infinity only. Written without branches so that it
// vectorises.
template <typename T, T kExponent>
bool NoneHasExponent(std::span<const T> bits) {
  T bad = 0;
  for (const T b : bits) bad |= static_cast<T>((b & kExponent) == kExponent);
  return bad == 0;
}

void StoreHalf(std::span<std::byte> scales, std::size_t group, std::uint16_t half) {
  std::memcpy(scales.data() + group * 2, &half, 2);
}

// Rounds to nearest even by the float adder: exact for |x| < 2^22.
inline float RoundToInt(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

// The fp16 scale for a group whose largest magnitude is `largest`, so that largest / scale is at
// most `limit` + 0.5: tiny scales are subnormal in fp16, where rounding down may lose a third of
// the value.
std::uint16_t ScaleFor(float largest, float limit) {
  std::uint16_t half = FloatToHalf(largest / limit);
  if (largest > (limit + 0.5f) * HalfToFloat(half)) ++half;
  return half;
}

void Int8Group(const float* x, float scale, std::byte* out) {
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  std::array<std::int8_t, kGroup> q;
  for (std::size_t i = 0; i < kGroup; ++i) {
    const float v = std::clamp(RoundToInt(x[i] * inverse), -127.0f, 127.0f);
    q[i] = static_cast<std::int8_t>(static_cast<int>(v));
  }
  std::memcpy(out, q.data(), kGroup);
}

void Int4Group(const float* x, float scale, std::byte* out) {
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  std::array<std::uint8_t, kGroup> q;
  for (std::size_t i = 0; i < kGroup; ++i) {
    const float v = std::clamp(x[i] * inverse + 8.5f, 0.0f, 15.0f);
    q[i] = static_cast<std::uint8_t>(static_cast<int>(v));
  }
  for (std::size_t i = 0; i < kGroup / 2; ++i)
    out[i] = static_cast<std::byte>(q[i] | (q[i + kGroup / 2] << 4));
}

bool QuantizeInt8(std::span<const float> row, std::span<std::byte> values,
                  std::span<std::byte> scales) {
  for (std::size_t group = 0; group * kGroup < row.size(); ++group) {
    const float* x = row.data() + group * kGroup;
    float largest = 0;
    for (std::size_t i = 0; i < kGroup; ++i) largest = std::max(largest, std::fabs(x[i]));
    if (!(largest / 127.0f <= kMaxHalf)) return false;
    const std::uint16_t half = ScaleFor(largest, 127.0f);
    StoreHalf(scales, group, half);
    Int8Group(x, HalfToFloat(half), values.data() + group * kGroup);
  }
  return true;
}

bool QuantizeInt4(std::span<const float> row, std::span<std::byte> values,
                  std::span<std::byte> scales) {
  for (std::size_t group = 0; group * kGroup < row.size(); ++group) {
    const float* x = row.data() + group * kGroup;
    float high = 0, low = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
      high = std::max(high, x[i]);
      low = std::min(low, x[i]);
    }
    const float largest = std::max(high, -low);
    if (!(largest / 8.0f <= kMaxHalf)) return false;
    // The extreme value becomes nibble 0, that is -8: its sign is the opposite of the scale's.
    std::uint16_t half = ScaleFor(largest, 8.0f);
    if (half != 0 && high > -low) half |= 0x8000u;
    StoreHalf(scales, group, half);
    Int4Group(x, HalfToFloat(half), values.data() + group * 16);
  }
  return true;
}

bool StoreBf16(std::span<const float> row, std::span<std::byte> values) {
  std::uint16_t bad = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(row[i]);
    const auto rounded = static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    bad |= static_cast<std::uint16_t>((rounded & 0x7f80u) == 0x7f80u);
    std::memcpy(values.data() + i * 2, &rounded, 2);
  }
  return bad == 0;
}

}  // namespace

RowBytes RowBytesOf(WeightFormat format, std::int64_t cols) {
  const auto n = static_cast<std::size_t>(cols);
  switch (format) {
    case WeightFormat::kF32:
      return {n * 4, 0};
    case WeightFormat::kBf16:
      return {n * 2, 0};
    case WeightFormat::kInt8:
      return {n, n / kGroup * 2};
    case WeightFormat::kInt4:
      return {n / 2, n / kGroup * 2};
  }
  TANDEM_CHECK(false);
}

bool QuantizeRow(std::span<const float> row, WeightFormat format, std::span<std::byte> values,
                 std::span<std::byte> scales) {
  const RowBytes bytes = RowBytesOf(format, static_cast<std::int64_t>(row.size()));
  TANDEM_CHECK(values.size() == bytes.values && scales.size() == bytes.scales);
  TANDEM_CHECK(bytes.scales == 0 || row.size() % kGroup == 0);
  if (!AllFinite(row)) return false;
  switch (format) {
    case WeightFormat::kF32:
      std::memcpy(values.data(), row.data(), bytes.values);
      return true;
    case WeightFormat::kBf16:
      return StoreBf16(row, values);
    case WeightFormat::kInt8:
      return QuantizeInt8(row, values, scales);
    case WeightFormat::kInt4:
      return QuantizeInt4(row, values, scales);
  }
  TANDEM_CHECK(false);
}

bool AllFinite(std::span<const float> values) {
  std::uint32_t bad = 0;
  for (const float v : values)
    bad |=
        static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(v) & 0x7f800000u) == 0x7f800000u);
  return bad == 0;
}

bool AllFiniteBf16(std::span<const std::uint16_t> values) {
  return NoneHasExponent<std::uint16_t, 0x7f80u>(values);
}
bool AllFiniteHalf(std::span<const std::uint16_t> values) {
  return NoneHasExponent<std::uint16_t, 0x7c00u>(values);
}

}  // namespace tandem
