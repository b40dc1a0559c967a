#include "lib/constrain/ebnf.h"

#include <algorithm>
#include <unordered_map>

#include "absl/status/status.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

constexpr char32_t kLastCharacter = 0x10FFFF;
// "a*+?" repeats three times.
constexpr int kMostRepeatsOfOne = 4;
constexpr CharRange kSurrogates = {0xD800, 0xDFFF};

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsNamePart(char c) { return IsNameStart(c) || (c >= '0' && c <= '9') || c == '-'; }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  absl::StatusOr<Grammar> Parse() {
    SkipSpace();
    while (!AtEnd()) TANDEM_RETURN_IF_ERROR(ParseRule());
    for (std::size_t i = 0; i < grammar_.rules.size(); ++i) {
      if (!defined_[i]) {
        return absl::InvalidArgumentError(
            Cat("grammar: there is no rule named '", grammar_.rules[i].name, "'"));
      }
    }
    const auto root = names_.find("root");
    if (root == names_.end())
      return absl::InvalidArgumentError("grammar: expected a rule named root, found none");
    grammar_.root = root->second;
    return std::move(grammar_);
  }

 private:
  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  absl::Status Wrong(std::string_view expected) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t begin = before.rfind('\n') + 1;
    const std::string found = AtEnd() ? "the end" : Found();
    return absl::InvalidArgumentError(Cat("grammar: line ", line, ", column ", at_ - begin + 1,
                                          ": expected ", expected, ", found ", found));
  }
  std::string Found() const {
    const std::size_t length = Utf8CharacterLength(text_.substr(at_));
    if (length == 0) return "a byte that is no UTF-8";
    return Cat("'", text_.substr(at_, length), "'");
  }

  void SkipSpace() {
    while (!AtEnd()) {
      const char c = Peek();
      if (c == '#') {
        while (!AtEnd() && Peek() != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view Name() {
    const std::size_t begin = at_;
    if (IsNameStart(Peek())) {
      while (IsNamePart(Peek())) ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

  // A name that "::=" follows: where the next rule begins.
  bool AtRule() {
    const std::size_t begin = at_;
    const bool named = !Name().empty();
    SkipSpace();
    const bool rule = named && text_.substr(at_, 3) == "::=";
    at_ = begin;
    return rule;
  }

  std::int32_t RuleOf(std::string_view name) {
    const auto [it, added] =
        names_.emplace(std::string(name), static_cast<std::int32_t>(grammar_.rules.size()));
    if (added) {
      grammar_.rules.push_back({std::string(name), 0});
      defined_.push_back(false);
    }
    return it->second;
  }

  absl::Status ParseRule() {
    if (!AtRule()) return Wrong("a rule: a name and ::=");
    const std::string_view name = Name();
    const std::int32_t rule = RuleOf(name);
    if (defined_[static_cast<std::size_t>(rule)])
      return Wrong(Cat("one rule named '", name, "': this is the second"));
    defined_[static_cast<std::size_t>(rule)] = true;
    SkipSpace();
    at_ += 3;
    TANDEM_ASSIGN_OR_RETURN(const std::int32_t body, ParseChoice(0));
    grammar_.rules[static_cast<std::size_t>(rule)].body = body;
    if (!AtEnd() && !AtRule()) return Wrong("a rule, '|' or the end");
    return absl::OkStatus();
  }

  absl::StatusOr<std::int32_t> Add(Expr expr) {
    if (grammar_.nodes.size() >= kMaxGrammarNodes) {
      return absl::InvalidArgumentError(
          Cat("grammar: expected at most ", kMaxGrammarNodes, " parts, found more"));
    }
    grammar_.nodes.push_back(std::move(expr));
    return static_cast<std::int32_t>(grammar_.nodes.size()) - 1;
  }

  absl::StatusOr<std::int32_t> ParseChoice(int depth) {
    if (depth > kMaxGrammarDepth)
      return Wrong(Cat("at most ", kMaxGrammarDepth, " nested parentheses"));
    Expr choice;
    choice.kind = Expr::Kind::kChoice;
    while (true) {
      TANDEM_ASSIGN_OR_RETURN(const std::int32_t sequence, ParseSequence(depth));
      choice.children.push_back(sequence);
      SkipSpace();
      if (Peek() != '|') break;
      ++at_;
    }
    if (choice.children.size() == 1) return choice.children[0];
    return Add(std::move(choice));
  }

  absl::StatusOr<std::int32_t> ParseSequence(int depth) {
    Expr sequence;
    while (true) {
      SkipSpace();
      if (AtEnd() || Peek() == '|' || Peek() == ')' || AtRule()) break;
      TANDEM_ASSIGN_OR_RETURN(const std::int32_t term, ParseTerm(depth));
      sequence.children.push_back(term);
    }
    if (sequence.children.size() == 1) return sequence.children[0];
    return Add(std::move(sequence));
  }

  absl::StatusOr<std::int32_t> ParseTerm(int depth) {
    TANDEM_ASSIGN_OR_RETURN(std::int32_t term, ParseAtom(depth));
    for (int repeats = 0;; ++repeats) {
      Expr repeat;
      repeat.kind = Expr::Kind::kRepeat;
      repeat.children = {term};
      const char c = Peek();
      if (c == '*' || c == '+' || c == '?') {
        ++at_;
        repeat.least = c == '+' ? 1 : 0;
        repeat.most = c == '?' ? 1 : kUnbounded;
      } else if (c == '{') {
        TANDEM_RETURN_IF_ERROR(ParseBounds(repeat));
      } else {
        return term;
      }
      if (repeats == kMostRepeatsOfOne) return Wrong("fewer repetitions of repetitions");
      TANDEM_ASSIGN_OR_RETURN(term, Add(std::move(repeat)));
    }
  }

  absl::StatusOr<std::int32_t> ParseNumber() {
    if (Peek() < '0' || Peek() > '9') return Wrong("a number");
    std::int32_t number = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      number = number * 10 + (Peek() - '0');
      if (number > kMaxRepeats) return Wrong(Cat("at most ", kMaxRepeats, " repetitions"));
      ++at_;
    }
    return number;
  }

  absl::Status ParseBounds(Expr& repeat) {
    ++at_;
    TANDEM_ASSIGN_OR_RETURN(repeat.least, ParseNumber());
    repeat.most = repeat.least;
    if (Peek() == ',') {
      ++at_;
      repeat.most = kUnbounded;
      if (Peek() != '}') {
        TANDEM_ASSIGN_OR_RETURN(repeat.most, ParseNumber());
        if (repeat.most < repeat.least) return Wrong("a second bound not under the first");
      }
    }
    if (Peek() != '}') return Wrong("'}'");
    ++at_;
    return absl::OkStatus();
  }

  absl::StatusOr<std::int32_t> ParseAtom(int depth) {
    const char c = Peek();
    if (c == '"') return ParseLiteral();
    if (c == '[') return ParseClass();
    if (c == '.') {
      ++at_;
      return AddChars({{0, kLastCharacter}});
    }
    if (c == '(') {
      ++at_;
      TANDEM_ASSIGN_OR_RETURN(const std::int32_t inside, ParseChoice(depth + 1));
      if (Peek() != ')') return Wrong("')'");
      ++at_;
      return inside;
    }
    const std::string_view name = Name();
    if (name.empty()) return Wrong("a literal, a class, a name, '.' or '('");
    Expr rule;
    rule.kind = Expr::Kind::kRule;
    rule.rule = RuleOf(name);
    return Add(std::move(rule));
  }

  absl::StatusOr<std::int32_t> AddChars(std::vector<CharRange> ranges) {
    Expr chars;
    chars.kind = Expr::Kind::kChars;
    // Twice: that takes the surrogates out.
    chars.chars = Complement(Complement(Normalised(std::move(ranges))));
    return Add(std::move(chars));
  }

  absl::StatusOr<std::int32_t> ParseLiteral() {
    ++at_;
    Expr sequence;
    while (Peek() != '"') {
      if (AtEnd() || Peek() == '\n') return Wrong("'\"'");
      TANDEM_ASSIGN_OR_RETURN(const char32_t character, ParseCharacter());
      TANDEM_ASSIGN_OR_RETURN(const std::int32_t chars, AddChars({{character, character}}));
      sequence.children.push_back(chars);
    }
    ++at_;
    if (sequence.children.size() == 1) return sequence.children[0];
    return Add(std::move(sequence));
  }

  absl::StatusOr<std::int32_t> ParseClass() {
    ++at_;
    const bool negated = Peek() == '^';
    if (negated) ++at_;
    std::vector<CharRange> ranges;
    while (Peek() != ']') {
      if (AtEnd() || Peek() == '\n') return Wrong("']'");
      TANDEM_ASSIGN_OR_RETURN(const char32_t first, ParseCharacter());
      char32_t last = first;
      if (Peek() == '-' && Peek(1) != ']') {
        ++at_;
        TANDEM_ASSIGN_OR_RETURN(last, ParseCharacter());
        if (last < first) return Wrong("a range that ascends");
      }
      ranges.emplace_back(first, last);
    }
    ++at_;
    ranges = Normalised(std::move(ranges));
    return AddChars(negated ? Complement(ranges) : std::move(ranges));
  }

  absl::StatusOr<char32_t> ParseHex(std::size_t digits) {
    char32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      const int digit = HexDigit(Peek());
      if (digit < 0) return Wrong(Cat(digits, " hexadecimal digits"));
      value = value * 16 + static_cast<char32_t>(digit);
      ++at_;
    }
    if (value > kLastCharacter) return Wrong("a character up to \\U0010FFFF");
    return value;
  }

  absl::StatusOr<char32_t> ParseCharacter() {
    const std::size_t length = AtEnd() ? 0 : Utf8CharacterLength(text_.substr(at_));
    if (length == 0) return Wrong("a character");
    if (Peek() != '\\') {
      const char32_t character = DecodeUtf8(text_.substr(at_, length));
      at_ += length;
      return character;
    }
    const char c = Peek(1);
    constexpr std::string_view kPlain = "\\\"'[]-^/";
    if (kPlain.find(c) != std::string_view::npos && c != '\0') {
      at_ += 2;
      return static_cast<char32_t>(c);
    }
    const char32_t control = c == 'n' ? U'\n' : c == 'r' ? U'\r' : c == 't' ? U'\t' : U'\0';
    if (control != U'\0') {
      at_ += 2;
      return control;
    }
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0)
      return Wrong("an escape: \\n \\r \\t \\\\ \\\" \\] \\[ \\- \\^ \\x \\u or \\U");
    at_ += 2;
    return ParseHex(digits);
  }

  static char32_t DecodeUtf8(std::string_view character) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
    if (character.size() == 1) return byte(0);
    char32_t value = byte(0) & (0xFFu >> (character.size() + 1));
    for (std::size_t i = 1; i < character.size(); ++i) value = value << 6 | (byte(i) & 0x3Fu);
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Grammar grammar_;
  std::unordered_map<std::string, std::int32_t> names_;
  std::vector<bool> defined_;
};

std::string EscapedCharacter(char32_t c) {
  if (c == U'\n') return "\\n";
  if (c == U'\\' || c == U'"' || c == U'[' || c == U']' || c == U'-' || c == U'^')
    return Cat("\\", std::string(1, static_cast<char>(c)));
  if (c >= 0x20 && c < 0x7F) return std::string(1, static_cast<char>(c));
  if (c <= 0xFF) return Cat("\\x", absl::Hex(static_cast<std::uint32_t>(c), absl::kZeroPad2));
  return Cat("\\U", absl::Hex(static_cast<std::uint32_t>(c), absl::kZeroPad8));
}

}  // namespace

absl::StatusOr<Grammar> ParseGrammar(std::string_view text) {
  if (text.size() > kMaxGrammarBytes) {
    return absl::InvalidArgumentError(
        Cat("grammar: expected at most ", kMaxGrammarBytes, " bytes, found ", text.size()));
  }
  return Parser(text).Parse();
}

std::vector<CharRange> Normalised(std::vector<CharRange> ranges) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<CharRange> merged;
  for (const CharRange& range : ranges) {
    if (range.second < range.first) continue;
    if (!merged.empty() && range.first <= merged.back().second + 1) {
      merged.back().second = std::max(merged.back().second, range.second);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::vector<CharRange> Complement(const std::vector<CharRange>& ranges) {
  std::vector<CharRange> taken = ranges;
  taken.push_back(kSurrogates);
  std::vector<CharRange> others;
  char32_t next = 0;
  for (const CharRange& range : Normalised(std::move(taken))) {
    if (range.first > next) others.emplace_back(next, range.first - 1);
    next = range.second + 1;
  }
  if (next <= kLastCharacter) others.emplace_back(next, kLastCharacter);
  return others;
}

std::string ClassText(const std::vector<CharRange>& ranges) {
  std::string text = "[";
  for (const CharRange& range : ranges) {
    text.append(EscapedCharacter(range.first));
    if (range.second == range.first) continue;
    text.append("-").append(EscapedCharacter(range.second));
  }
  return text + "]";
}

std::string LiteralText(std::string_view text) {
  std::string literal = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) {
      literal.push_back(c);
    } else if (byte >= 0x20 && byte < 0x7F && c != '"' && c != '\\') {
      literal.push_back(c);
    } else {
      literal.append(EscapedCharacter(byte));
    }
  }
  return literal + "\"";
}

}  // namespace tandem
