#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/constrain/ebnf.h"

namespace tandem {

// A grammar (ebnf.h) while it is written, with the rules of JSON in it. JSON is spelled one way, as
// Python's json.dumps does it: ", " and ": " between, nothing else; so a model cannot go on with
// white space for ever, and what must follow is known. Numbers have at most 15 digits before and
// behind the point and an exponent of two: what a double holds.
class GrammarText {
 public:
  GrammarText();

  // A new rule, by its name.
  std::string Rule(std::string_view expression);
  // A name for a rule that Define gives its expression later.
  std::string Declare();
  void Define(std::string_view name, std::string_view expression);
  // What has been written takes more than a grammar may.
  bool full() const { return text_.size() > kMaxGrammarBytes; }
  // The whole grammar.
  std::string Finish(std::string_view root) const;

 private:
  std::string text_;
  int rules_ = 0;
};

// Rules that every GrammarText has: any JSON value, and of each type. kJsonCharacter is one
// character inside a string, kJsonPlainCharacter one that is spelled as itself.
inline constexpr std::string_view kJsonValue = "json";
inline constexpr std::string_view kJsonObject = "json-object";
inline constexpr std::string_view kJsonArray = "json-array";
inline constexpr std::string_view kJsonString = "json-string";
inline constexpr std::string_view kJsonNumber = "json-number";
inline constexpr std::string_view kJsonInteger = "json-integer";
inline constexpr std::string_view kJsonBoolean = "json-boolean";
inline constexpr std::string_view kJsonCharacter = "json-char";
inline constexpr std::string_view kJsonPlainCharacter = "json-plain";

enum class Other : std::uint8_t { kWords, kPrefixes };
// Texts of characters other than `without` that are none of `words` (kWords), or that begin with
// none of them (kPrefixes): an expression. Words are valid UTF-8 of up to kMaxWordBytes; those with
// a character of `without` in them are nothing that could be said anyway.
std::string OtherText(GrammarText& grammar, const std::vector<std::string>& words, Other other,
                      const std::vector<CharRange>& without);
inline constexpr std::size_t kMaxWordBytes = 512;
// What a JSON string cannot hold as itself: control characters, quote and backslash.
const std::vector<CharRange>& JsonEscaped();

}  // namespace tandem
