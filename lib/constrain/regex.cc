#include "lib/constrain/regex.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/constrain/ebnf.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

using Ranges = std::vector<CharRange>;

constexpr int kMaxRegexDepth = 64;

const Ranges& Digits() {
  static const Ranges ranges = {{U'0', U'9'}};
  return ranges;
}
const Ranges& WordCharacters() {
  static const Ranges ranges = {{U'0', U'9'}, {U'A', U'Z'}, {U'_', U'_'}, {U'a', U'z'}};
  return ranges;
}
// ECMA-262's WhiteSpace and LineTerminator.
const Ranges& Spaces() {
  static const Ranges ranges = {
      {0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
      {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return ranges;
}
const Ranges& LineEnds() {
  static const Ranges ranges = {{U'\n', U'\n'}, {U'\r', U'\r'}, {0x2028, 0x2029}};
  return ranges;
}

bool Contains(const Ranges& ranges, char32_t c) {
  for (const CharRange& range : ranges) {
    if (range.first <= c && c <= range.second) return true;
  }
  return false;
}

Ranges Without(const Ranges& ranges, Ranges others) {
  for (const CharRange& range : Complement(ranges)) others.push_back(range);
  return Complement(Normalised(std::move(others)));
}

// One character of `ranges` as the content of a JSON string, each in one spelling.
std::string JsonClass(const Ranges& ranges) {
  std::string text = ClassText(Without(ranges, {{0, 0x1F}, {U'"', U'"'}, {U'\\', U'\\'}}));
  constexpr std::pair<char32_t, char> kShort[] = {{U'"', '"'},  {U'\\', '\\'}, {U'\b', 'b'},
                                                  {U'\f', 'f'}, {U'\n', 'n'},  {U'\r', 'r'},
                                                  {U'\t', 't'}};
  for (const auto& [character, letter] : kShort) {
    if (Contains(ranges, character))
      text.append(" | ").append(LiteralText(Cat("\\", std::string(1, letter))));
  }
  for (char32_t c = 0; c < 0x20; ++c) {
    const bool is_short = c == U'\b' || c == U'\f' || c == U'\n' || c == U'\r' || c == U'\t';
    if (is_short || !Contains(ranges, c)) continue;
    text.append(" | ").append(
        LiteralText(Cat("\\u", absl::Hex(static_cast<std::uint32_t>(c), absl::kZeroPad4))));
  }
  return Cat("(", text, ")");
}

class Translator {
 public:
  Translator(std::string_view regex, RegexText text, RegexMatch match)
      : regex_(regex), text_(text), match_(match) {}

  absl::StatusOr<std::string> Translate() {
    std::string all;
    while (true) {
      const bool from_start = Take('^');
      TANDEM_ASSIGN_OR_RETURN(const std::string sequence, Sequence(0));
      const bool to_end = Take('$');
      if (!AtEnd() && Peek() != '|') return Wrong("'|' or the end");
      const std::string any = Cat(Class(Complement({})), "* ");
      const bool search = match_ == RegexMatch::kSearch;
      all.append(Cat(search && !from_start ? any : "", sequence, search && !to_end ? any : ""));
      if (!Take('|')) break;
      all.append("| ");
    }
    return Cat("(", all, ")");
  }

 private:
  bool AtEnd() const { return at_ >= regex_.size(); }
  char Peek(std::size_t ahead = 0) const {
    return at_ + ahead < regex_.size() ? regex_[at_ + ahead] : '\0';
  }
  bool Take(char c) {
    if (AtEnd() || Peek() != c) return false;
    ++at_;
    return true;
  }
  absl::Status Wrong(std::string_view expected) const {
    return absl::InvalidArgumentError(
        Cat("regular expression: at byte ", at_, ": expected ", expected));
  }
  absl::Status Unsupported(std::string_view what) const {
    return absl::InvalidArgumentError(
        Cat("regular expression: at byte ", at_, ": ", what, " cannot be enforced"));
  }

  std::string Class(const Ranges& ranges) const {
    return text_ == RegexText::kPlain ? ClassText(ranges) : JsonClass(ranges);
  }

  absl::StatusOr<std::string> Choice(int depth) {
    if (depth > kMaxRegexDepth) return Wrong(Cat("at most ", kMaxRegexDepth, " nested groups"));
    TANDEM_ASSIGN_OR_RETURN(std::string all, Sequence(depth));
    while (Take('|')) {
      TANDEM_ASSIGN_OR_RETURN(const std::string sequence, Sequence(depth));
      all.append("| ").append(sequence);
    }
    return Cat("(", all, ")");
  }

  absl::StatusOr<std::string> Sequence(int depth) {
    std::string all = "\"\" ";
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      // At the end of an alternative of the whole; Translate takes it.
      if (Peek() == '$' && depth == 0 && (at_ + 1 == regex_.size() || Peek(1) == '|')) break;
      TANDEM_ASSIGN_OR_RETURN(const std::string atom, Atom(depth));
      TANDEM_ASSIGN_OR_RETURN(const std::string quantifier, Quantifier());
      all.append(atom).append(quantifier).append(" ");
    }
    return all;
  }

  absl::StatusOr<std::string> Quantifier() {
    std::string text;
    const char c = Peek();
    if (!AtEnd() && (c == '*' || c == '+' || c == '?')) {
      text = std::string(1, c);
      ++at_;
    } else if (!AtEnd() && c == '{') {
      const std::size_t end = regex_.find('}', at_);
      if (end == std::string_view::npos) return Wrong("bounds such as {1,3}");
      text = std::string(regex_.substr(at_, end + 1 - at_));
      if (text.size() < 3 || text.find_first_not_of("0123456789,{}") != std::string::npos ||
          text[1] == ',' || text.find('{', 1) != std::string::npos)
        return Wrong("bounds such as {1,3}");
      at_ = end + 1;
    } else {
      return text;
    }
    // As few as possible is the same language.
    Take('?');
    if (!AtEnd() && (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{'))
      return Wrong("one quantifier");
    return text;
  }

  absl::StatusOr<std::string> Group(int depth) {
    ++at_;
    if (Take('?')) {
      const bool named = Peek() == '<' && Peek(1) != '=' && Peek(1) != '!';
      if (named) {
        const std::size_t end = regex_.find('>', at_);
        if (end == std::string_view::npos) return Wrong("'>' after a group's name");
        at_ = end + 1;
      } else if (!Take(':')) {
        return Unsupported("a group with (?, such as lookahead,");
      }
    }
    TANDEM_ASSIGN_OR_RETURN(std::string inside, Choice(depth + 1));
    if (!Take(')')) return Wrong("')'");
    return inside;
  }

  absl::StatusOr<std::string> Atom(int depth) {
    switch (Peek()) {
      case '(':
        return Group(depth);
      case '[':
        return Set();
      case '.':
        ++at_;
        return Class(Complement(LineEnds()));
      case '^':
      case '$':
        return Unsupported("an anchor inside");
      case '*':
      case '+':
      case '?':
      case '{':
        return Wrong("something to repeat");
      case '\\': {
        TANDEM_ASSIGN_OR_RETURN(const Ranges ranges, Escape(false));
        return Class(ranges);
      }
      default: {
        TANDEM_ASSIGN_OR_RETURN(const char32_t character, Character());
        return Class({{character, character}});
      }
    }
  }

  absl::StatusOr<char32_t> Character() {
    const std::size_t length = AtEnd() ? 0 : Utf8CharacterLength(regex_.substr(at_));
    if (length == 0) return Wrong("a character");
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(regex_[at_ + i]); };
    char32_t value = length == 1 ? byte(0) : byte(0) & (0xFFu >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) value = value << 6 | (byte(i) & 0x3Fu);
    at_ += length;
    return value;
  }

  absl::StatusOr<char32_t> Hex(std::size_t digits) {
    char32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const char c = Peek();
      const bool digit = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!digit && (lower < 'a' || lower > 'f')) return Wrong(Cat(digits, " hexadecimal digits"));
      value = value * 16 + static_cast<char32_t>(digit ? c - '0' : lower - 'a' + 10);
    }
    return value;
  }

  absl::StatusOr<Ranges> Escape(bool in_set) {
    ++at_;
    const char c = Peek();
    ++at_;
    const auto one = [](char32_t character) { return Ranges{{character, character}}; };
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return Complement(Digits());
      case 'w':
        return WordCharacters();
      case 'W':
        return Complement(WordCharacters());
      case 's':
        return Spaces();
      case 'S':
        return Complement(Spaces());
      case 'n':
        return one(U'\n');
      case 'r':
        return one(U'\r');
      case 't':
        return one(U'\t');
      case 'f':
        return one(U'\f');
      case 'v':
        return one(U'\v');
      case 'b':
        if (in_set) return one(U'\b');
        return Unsupported("a word boundary");
      case 'x':
      case 'u': {
        TANDEM_ASSIGN_OR_RETURN(const char32_t value, Hex(c == 'x' ? 2 : 4));
        if (value >= 0xD800 && value <= 0xDFFF) return Unsupported("half of a surrogate pair");
        return one(value);
      }
      case '0':
        if (Peek() >= '0' && Peek() <= '9') return Wrong("no octal escape");
        return one(0);
      default:
        break;
    }
    constexpr std::string_view kThemselves = "\\^$.*+?()[]{}|/-\"'#&,:;<=>@!%_`~ ";
    if (c != '\0' && kThemselves.find(c) != std::string_view::npos)
      return one(static_cast<char32_t>(c));
    at_ -= 2;
    return Unsupported("this escape");
  }

  // One member of a set: a character, or a class such as \d.
  absl::StatusOr<Ranges> Member() {
    if (Peek() == '\\') return Escape(true);
    TANDEM_ASSIGN_OR_RETURN(const char32_t character, Character());
    return Ranges{{character, character}};
  }

  static std::optional<char32_t> OneOf(const Ranges& ranges) {
    if (ranges.size() != 1 || ranges[0].first != ranges[0].second) return std::nullopt;
    return ranges[0].first;
  }

  absl::StatusOr<std::string> Set() {
    ++at_;
    const bool negated = Take('^');
    Ranges all;
    while (Peek() != ']') {
      if (AtEnd()) return Wrong("']'");
      TANDEM_ASSIGN_OR_RETURN(Ranges first, Member());
      if (Peek() == '-' && Peek(1) != ']' && at_ + 1 < regex_.size()) {
        ++at_;
        TANDEM_ASSIGN_OR_RETURN(const Ranges last, Member());
        if (!OneOf(first).has_value() || !OneOf(last).has_value() || *OneOf(last) < *OneOf(first))
          return Wrong("a range of characters that ascends");
        first = {{*OneOf(first), *OneOf(last)}};
      }
      all.insert(all.end(), first.begin(), first.end());
    }
    ++at_;
    all = Normalised(std::move(all));
    return Class(negated ? Complement(all) : all);
  }

  std::string_view regex_;
  const RegexText text_;
  const RegexMatch match_;
  std::size_t at_ = 0;
};

}  // namespace

absl::StatusOr<std::string> RegexToGrammar(std::string_view regex, RegexText text,
                                           RegexMatch match) {
  if (regex.size() > kMaxRegexBytes) {
    return absl::InvalidArgumentError(Cat("regular expression: expected at most ", kMaxRegexBytes,
                                          " bytes, found ", regex.size()));
  }
  return Translator(regex, text, match).Translate();
}

}  // namespace tandem
