#include "lib/constrain/json_grammar.h"

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

constexpr std::string_view kJsonRules = R"(
json ::= json-object | json-array | json-string | json-number | json-boolean | "null"
json-object ::= "{" (json-pair (", " json-pair)*)? "}"
json-pair ::= json-string ": " json
json-array ::= "[" (json (", " json)*)? "]"
json-string ::= "\"" json-char* "\""
json-char ::= json-plain | "\\" ["\\/bfnrt] | "\\u00" [01] [0-9a-f]
json-plain ::= [^"\\\x00-\x1F]
json-number ::= json-integer ("." [0-9]{1,15})? ([eE] [+\-]? [0-9]{1,2})?
json-integer ::= "-"? ("0" | [1-9] [0-9]{0,14})
json-boolean ::= "true" | "false"
)";

std::vector<std::string_view> CharactersOf(std::string_view word) {
  std::vector<std::string_view> characters;
  while (!word.empty()) {
    const std::size_t length = std::max<std::size_t>(Utf8CharacterLength(word), 1);
    characters.push_back(word.substr(0, length));
    word.remove_prefix(length);
  }
  return characters;
}

using Word = std::vector<std::string_view>;

// What may follow the first `at` characters, which the words [begin, end) share; sorted.
std::string Rest(GrammarText& grammar, const Word* begin, const Word* end, std::size_t at,
                 Other other, std::string_view any, std::string_view excluded) {
  std::string ways;
  const bool is_word = begin->size() == at;
  if (!is_word || other == Other::kPrefixes) ways = "\"\" | ";
  if (is_word) ++begin;
  std::string children;
  for (const Word* first = begin; first != end;) {
    const std::string_view character = (*first)[at];
    const Word* last = first;
    bool whole = false;
    for (; last != end && (*last)[at] == character; ++last) whole = whole || last->size() == at + 1;
    // A character in a class is written as in a literal, but for those that mean something there.
    const bool ascii = character.size() == 1;
    children.append(ascii && std::string_view("\\]^-[").find(character[0]) != std::string_view::npos
                        ? "\\"
                        : "");
    if (ascii && static_cast<unsigned char>(character[0]) < 0x20) {
      children.append(
          Cat("\\x", absl::Hex(static_cast<unsigned char>(character[0]), absl::kZeroPad2)));
    } else {
      children.append(character);
    }
    if (!whole || other == Other::kWords) {
      ways.append(Cat(LiteralText(character), " ",
                      Rest(grammar, first, last, at + 1, other, any, excluded), " | "));
    }
    first = last;
  }
  ways.append(Cat("[^", excluded, children, "] ", any));
  return grammar.Rule(ways);
}

}  // namespace

GrammarText::GrammarText() : text_(kJsonRules) {}

std::string GrammarText::Declare() { return Cat("r", rules_++); }

void GrammarText::Define(std::string_view name, std::string_view expression) {
  if (!full()) text_.append(Cat(name, " ::= ", expression, "\n"));
}

std::string GrammarText::Rule(std::string_view expression) {
  std::string name = Declare();
  Define(name, expression);
  return name;
}

std::string GrammarText::Finish(std::string_view root) const {
  return Cat(text_, "root ::= ", root, "\n");
}

const std::vector<CharRange>& JsonEscaped() {
  static const std::vector<CharRange> ranges = {{0, 0x1F}, {U'"', U'"'}, {U'\\', U'\\'}};
  return ranges;
}

std::string OtherText(GrammarText& grammar, const std::vector<std::string>& words, Other other,
                      const std::vector<CharRange>& without) {
  std::string excluded = ClassText(without);
  excluded = excluded.substr(1, excluded.size() - 2);
  const std::string any = Cat(ClassText(Complement(without)), "*");
  std::vector<Word> sorted;
  for (const std::string& word : words) {
    const bool possible = std::none_of(word.begin(), word.end(), [&](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return std::any_of(without.begin(), without.end(), [byte](const CharRange& range) {
        return byte < 0x80 && range.first <= byte && byte <= range.second;
      });
    });
    if (possible) sorted.push_back(CharactersOf(word));
  }
  if (sorted.empty()) return any;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  return Rest(grammar, sorted.data(), sorted.data() + sorted.size(), 0, other, any, excluded);
}

}  // namespace tandem
