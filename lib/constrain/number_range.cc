#include "lib/constrain/number_range.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::string_view kNothing = "[]";

std::string DigitsFrom(char first, char last) {
  if (first > last) return std::string(kNothing);
  return Cat("[", std::string(1, first), "-", std::string(1, last), "]");
}

std::string Any(std::size_t count) { return count == 0 ? "" : Cat("[0-9]{", count, "}"); }

std::string Quoted(std::string_view digits) { return Cat("\"", digits, "\""); }

// Ways to go on, joined by '|'; what matches nothing is left out.
class Ways {
 public:
  void Add(std::string way) { ways_.push_back(std::move(way)); }
  std::string Join() const {
    std::string all;
    for (const std::string& way : ways_) {
      if (way.find(kNothing) != std::string::npos) continue;
      all.append(all.empty() ? "" : " | ").append(way);
    }
    return all.empty() ? std::string(kNothing) : Cat("(", all, ")");
  }

 private:
  std::vector<std::string> ways_;
};

// Digits of the same count, not under (over) those given.
std::string NotUnder(std::string_view digits) {
  if (digits.empty()) return "";
  Ways ways;
  if (digits[0] < '9')
    ways.Add(Cat(DigitsFrom(static_cast<char>(digits[0] + 1), '9'), Any(digits.size() - 1)));
  ways.Add(Cat(Quoted(digits.substr(0, 1)), " ", NotUnder(digits.substr(1))));
  return ways.Join();
}

std::string NotOver(std::string_view digits) {
  if (digits.empty()) return "";
  Ways ways;
  if (digits[0] > '0')
    ways.Add(Cat(DigitsFrom('0', static_cast<char>(digits[0] - 1)), Any(digits.size() - 1)));
  ways.Add(Cat(Quoted(digits.substr(0, 1)), " ", NotOver(digits.substr(1))));
  return ways.Join();
}

// Both have the same count of digits, least <= most.
std::string Within(std::string_view least, std::string_view most) {
  if (least.empty()) return "";
  if (least[0] == most[0])
    return Cat(Quoted(least.substr(0, 1)), " ", Within(least.substr(1), most.substr(1)));
  Ways ways;
  ways.Add(Cat(Quoted(least.substr(0, 1)), " ", NotUnder(least.substr(1))));
  ways.Add(Cat(DigitsFrom(static_cast<char>(least[0] + 1), static_cast<char>(most[0] - 1)),
               Any(least.size() - 1)));
  ways.Add(Cat(Quoted(most.substr(0, 1)), " ", NotOver(most.substr(1))));
  return ways.Join();
}

// 0 <= least.
std::string NaturalRange(std::int64_t least, std::int64_t most) {
  Ways ways;
  while (least <= most) {
    const std::string first = std::to_string(least);
    const std::string longest(first.size(), '9');
    const std::int64_t last = std::min<std::int64_t>(most, std::stoll(longest));
    ways.Add(Within(first, std::to_string(last)));
    least = last + 1;
  }
  return ways.Join();
}

// The digits of a fraction, from some place on: what matches those that are there, and whether
// there may be none.
struct Tail {
  std::string some;
  bool none = false;
};

std::string Join(std::string_view digit, const Tail& tail) {
  if (tail.some == kNothing) return tail.none ? std::string(digit) : std::string(kNothing);
  return Cat(digit, " ", tail.some, tail.none ? "?" : "");
}

std::string AnyTail() { return Cat("[0-9]{1,", kMaxFractionDigits, "}"); }

// More than nothing.
std::string Positive() { return "(\"0\"{0,5} [1-9] [0-9]{0,8})"; }

Tail FractionNotUnder(std::string_view digits, bool included) {
  if (digits.empty()) {
    if (included) return {AnyTail(), true};
    return {Positive(), false};
  }
  Ways ways;
  if (digits[0] < '9')
    ways.Add(Join(DigitsFrom(static_cast<char>(digits[0] + 1), '9'), {AnyTail(), true}));
  ways.Add(Join(Quoted(digits.substr(0, 1)), FractionNotUnder(digits.substr(1), included)));
  return {ways.Join(), false};
}

Tail FractionNotOver(std::string_view digits, bool included) {
  if (digits.empty()) return {std::string(kNothing), included};
  Ways ways;
  if (digits[0] > '0')
    ways.Add(Join(DigitsFrom('0', static_cast<char>(digits[0] - 1)), {AnyTail(), true}));
  ways.Add(Join(Quoted(digits.substr(0, 1)), FractionNotOver(digits.substr(1), included)));
  return {ways.Join(), true};
}

// least < most as fractions, or both are included and equal.
Tail FractionWithin(std::string_view least, bool least_included, std::string_view most,
                    bool most_included) {
  if (most.empty())
    return {std::string(kNothing), least.empty() && least_included && most_included};
  const char low = least.empty() ? '0' : least[0];
  const std::string_view least_rest = least.empty() ? least : least.substr(1);
  Ways ways;
  if (low == most[0]) {
    ways.Add(Join(Quoted(most.substr(0, 1)),
                  FractionWithin(least_rest, least_included, most.substr(1), most_included)));
  } else {
    ways.Add(Join(Quoted(std::string(1, low)), FractionNotUnder(least_rest, least_included)));
    ways.Add(Join(DigitsFrom(static_cast<char>(low + 1), static_cast<char>(most[0] - 1)),
                  {AnyTail(), true}));
    ways.Add(Join(Quoted(most.substr(0, 1)), FractionNotOver(most.substr(1), most_included)));
  }
  return {ways.Join(), least.empty() && least_included};
}

std::string WithFraction(const std::string& whole, const Tail& fraction) {
  const std::string dotted =
      fraction.some == kNothing ? std::string(kNothing) : Cat("\".\" ", fraction.some);
  if (dotted == kNothing) return fraction.none ? whole : std::string(kNothing);
  return Cat(whole, " (", dotted, ")", fraction.none ? "?" : "");
}

// Both not negative.
std::string PositiveRange(const Decimal& least, const Decimal& most) {
  Ways ways;
  if (least.whole > most.whole) return std::string(kNothing);
  const std::string first = Quoted(std::to_string(least.whole));
  const std::string last = Quoted(std::to_string(most.whole));
  if (least.whole == most.whole) {
    const bool fits = least.fraction < most.fraction ||
                      (least.fraction == most.fraction && least.included && most.included);
    if (!fits) return std::string(kNothing);
    return WithFraction(
        first, FractionWithin(least.fraction, least.included, most.fraction, most.included));
  }
  ways.Add(WithFraction(first, FractionNotUnder(least.fraction, least.included)));
  ways.Add(WithFraction(NaturalRange(least.whole + 1, most.whole - 1), {AnyTail(), true}));
  ways.Add(WithFraction(last, FractionNotOver(most.fraction, most.included)));
  return ways.Join();
}

}  // namespace

std::string IntegerRange(std::int64_t least, std::int64_t most) {
  Ways ways;
  if (least < 0 && least <= most)
    ways.Add(Cat("\"-\" ", NaturalRange(std::max<std::int64_t>(1, -most), -least)));
  ways.Add(NaturalRange(std::max<std::int64_t>(0, least), most));
  return ways.Join();
}

std::string DecimalRange(const Decimal& least, const Decimal& most) {
  const Decimal zero;
  Ways ways;
  if (least.negative) {
    // -0 is 0.
    Decimal low = most.negative ? most : zero;
    if (!most.negative && most.whole == 0 && most.fraction.empty()) low.included = most.included;
    ways.Add(Cat("\"-\" ", PositiveRange(low, least)));
  }
  if (!most.negative) ways.Add(PositiveRange(least.negative ? zero : least, most));
  return ways.Join();
}

}  // namespace tandem
