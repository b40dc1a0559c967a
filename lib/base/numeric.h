#pragma once

#include <bit>
#include <cstdint>

namespace tandem {

// Scalar conversions between float and its 16-bit forms. Rounding is to nearest, ties to even; NaN
// stays NaN, overflow gives infinity.
inline float Bf16ToFloat(std::uint16_t v) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(v) << 16);
}
std::uint16_t FloatToBf16(float v);
float HalfToFloat(std::uint16_t v);
std::uint16_t FloatToHalf(float v);

inline constexpr std::uint64_t RoundUp(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}
inline constexpr std::uint64_t CeilDiv(std::uint64_t n, std::uint64_t by) {
  return (n + by - 1) / by;
}

}  // namespace tandem
