#pragma once

#include <cstdint>
#include <string>

namespace tandem {

// Numbers within bounds, as expressions of a grammar (ebnf.h), in JSON's spelling.

// Integers and the whole part of others have at most this many digits, so that a double holds them.
inline constexpr int kMaxWholeDigits = 15;
inline constexpr std::int64_t kMostWhole = 999'999'999'999'999;
inline constexpr int kMaxFractionDigits = 15;

// Integers from `least` to `most`, both within +-kMostWhole; matches nothing where there are none.
std::string IntegerRange(std::int64_t least, std::int64_t most);

// A bound in plain decimal digits.
struct Decimal {
  bool negative = false;
  std::int64_t whole = 0;
  // Without zeros at the end.
  std::string fraction;
  // The bound itself is within.
  bool included = true;
};
// Numbers without an exponent from `least` to `most`.
std::string DecimalRange(const Decimal& least, const Decimal& most);

}  // namespace tandem
