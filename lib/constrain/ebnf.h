#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// A grammar as people and the wire write it, and as a tree. The text is the dialect that llama.cpp
// calls GBNF:
//   root   ::= "yes" | "no" rest{1,3}      # a comment
//   rest   ::= [ a-z] | [^\n"] | .
// Literals and classes take the escapes \n \r \t \\ \" \' \] \[ \- \^ \/ \xHH \uHHHH \UHHHHHHHH; `.`
// is any character. `*`, `+`, `?`, `{m}`, `{m,}` and `{m,n}` stand after what they repeat. A rule
// ends where the next one begins. It matches text in Unicode, not bytes.

inline constexpr std::size_t kMaxGrammarBytes = std::size_t{512} << 10;
inline constexpr std::size_t kMaxGrammarNodes = std::size_t{1} << 17;
inline constexpr int kMaxGrammarDepth = 256;
inline constexpr std::int32_t kMaxRepeats = 1 << 20;
// For Expr::most: no bound.
inline constexpr std::int32_t kUnbounded = -1;

// First and last code point, both included.
using CharRange = std::pair<char32_t, char32_t>;

struct Expr {
  enum class Kind : std::uint8_t { kChars, kSequence, kChoice, kRepeat, kRule };
  Kind kind = Kind::kSequence;
  // kChars: one character in any of these, ascending and apart. May be empty: matches nothing.
  std::vector<CharRange> chars;
  // Indices into Grammar::nodes. kSequence without any matches the empty text; kRepeat has one.
  std::vector<std::int32_t> children;
  // kRepeat.
  std::int32_t least = 0;
  std::int32_t most = kUnbounded;
  // kRule: index into Grammar::rules.
  std::int32_t rule = 0;
};

struct GrammarRule {
  std::string name;
  std::int32_t body = 0;
};

struct Grammar {
  std::vector<Expr> nodes;
  std::vector<GrammarRule> rules;
  // The rule named root.
  std::int32_t root = 0;
};

// INVALID_ARGUMENT with line, column, what was expected and what was found; for a name without a
// rule, two rules of one name, no root, and for what goes over the bounds above.
absl::StatusOr<Grammar> ParseGrammar(std::string_view text);

// Sorted and merged.
std::vector<CharRange> Normalised(std::vector<CharRange> ranges);
// All other characters; `ranges` normalised. Surrogates are no characters.
std::vector<CharRange> Complement(const std::vector<CharRange>& ranges);
// A class that holds these characters, as ParseGrammar reads it: "[a-z\\n]".
std::string ClassText(const std::vector<CharRange>& ranges);
// A literal, quoted and escaped. `text` must be valid UTF-8.
std::string LiteralText(std::string_view text);

}  // namespace tandem
