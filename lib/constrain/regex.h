#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tandem {

inline constexpr std::size_t kMaxRegexBytes = std::size_t{16} << 10;

// What the characters of a text stand for in the grammar.
enum class RegexText : std::uint8_t {
  // Themselves.
  kPlain,
  // They are the content of a JSON string: quotes, backslashes and control characters are escaped.
  kJsonString,
};
enum class RegexMatch : std::uint8_t {
  // The whole text; anchors at the ends are taken as what they are.
  kWhole,
  // Some part of it, as JSON Schema's `pattern` has it.
  kSearch,
};

// The regular expression (ECMA-262's syntax, characters in Unicode) as an expression of a grammar
// (ebnf.h). INVALID_ARGUMENT with the place for what is no regular expression, and for what has no
// such grammar: lookaround, back references, word boundaries, \p{...}, and anchors elsewhere than
// at the ends of the whole or of its alternatives.
absl::StatusOr<std::string> RegexToGrammar(std::string_view regex, RegexText text,
                                           RegexMatch match);

}  // namespace tandem
