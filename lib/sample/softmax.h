#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem {

// The passes over a whole vocabulary that sampling needs, written so that the compiler vectorises
// them.

// exp(x) for x <= 0, relative error under 3e-7; 0 below -87 (where float's normal range ends).
// Range reduction by ln 2 in two parts, then the Taylor series to the sixth power on [-ln2/2,
// ln2/2].
inline float ExpNegative(float x) {
  const float clamped = std::max(x, -87.0f);
  // adding it rounds to a whole number, which then stands in the low mantissa bits
  constexpr float kMagic = 0x1.8p23f;
  const float shifted = clamped * 1.44269504088896341f + kMagic;
  const float whole = shifted - kMagic;
  float r = clamped - whole * 0.693359375f;
  r -= whole * -2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  const float result = p * std::bit_cast<float>(exponent);
  return x < -87.0f ? 0.0f : result;
}

struct SoftmaxSummary {
  // no NaN, no +infinity, and at least one value above -infinity; the rest is valid only then
  bool finite = false;
  float max = 0;
  std::int32_t best = 0;  // the first index with the largest value
  double log_sum = 0;     // log of the sum of exp(value)
};
SoftmaxSummary Summarize(std::span<const float> values);
// The same without log_sum (0).
SoftmaxSummary FindBest(std::span<const float> values);

// values[i] = (values[i] - max) / temperature.
void ScaleBelow(std::span<float> values, float max, float temperature);

// The sum of exp(values[i]) over those above `cut`, and those equal to it up to index `last_equal`.
// At most kSoftmaxBlock values, none above 0.
inline constexpr std::size_t kSoftmaxBlock = 1024;
double KeptExpSum(std::span<const float> values, float cut, std::int32_t last_equal);

}  // namespace tandem
