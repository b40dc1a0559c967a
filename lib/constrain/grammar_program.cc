#include "lib/constrain/grammar_program.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

// Copies of what is repeated stand in the program up to this many parts; more is counted.
constexpr std::int64_t kMostCopied = 24;

// Looks at parts of a grammar that the checks before compiling may take.
constexpr std::int64_t kMostLooks = 20'000'000;

// Which rules can match the empty text, by repeating until nothing changes.
class Emptiness {
 public:
  explicit Emptiness(const Grammar& grammar) : grammar_(grammar), rules_(grammar.rules.size()) {
    bool changed = true;
    while (changed && looks_ < kMostLooks) {
      changed = false;
      // From the last one: rules tend to be written before those that they use.
      for (std::size_t i = rules_.size(); i-- > 0;) {
        if (rules_[i] || !CanBeEmpty(grammar.rules[i].body)) continue;
        rules_[i] = changed = true;
      }
    }
  }

  // There were too many, and what is known is not all.
  bool exhausted() const { return looks_ >= kMostLooks; }

  bool CanBeEmpty(std::int32_t node) const {
    ++looks_;
    const Expr& expr = grammar_.nodes[static_cast<std::size_t>(node)];
    const auto empty = [this](std::int32_t child) { return CanBeEmpty(child); };
    switch (expr.kind) {
      case Expr::Kind::kChars:
        return false;
      case Expr::Kind::kSequence:
        return std::all_of(expr.children.begin(), expr.children.end(), empty);
      case Expr::Kind::kChoice:
        return std::any_of(expr.children.begin(), expr.children.end(), empty);
      case Expr::Kind::kRepeat:
        return expr.least == 0 || CanBeEmpty(expr.children[0]);
      case Expr::Kind::kRule:
        return rules_[static_cast<std::size_t>(expr.rule)];
    }
    return false;
  }

 private:
  const Grammar& grammar_;
  std::vector<bool> rules_;
  mutable std::int64_t looks_ = 0;
};

// Finds a rule that may run itself before anything is read.
class LeftRecursion {
 public:
  LeftRecursion(const Grammar& grammar, const Emptiness& emptiness)
      : grammar_(grammar), emptiness_(emptiness), left_(grammar.rules.size()) {
    for (std::size_t i = 0; i < left_.size(); ++i) Collect(grammar.rules[i].body, left_[i]);
  }

  absl::Status Check() const {
    enum class Mark : std::uint8_t { kNew, kOpen, kDone };
    std::vector<Mark> marks(left_.size(), Mark::kNew);
    for (std::size_t root = 0; root < left_.size(); ++root) {
      // Rule, and how many of its left rules have been gone through.
      std::vector<std::pair<std::size_t, std::size_t>> path;
      const auto open = [&](std::size_t rule) {
        marks[rule] = Mark::kOpen;
        path.emplace_back(rule, 0);
      };
      if (marks[root] == Mark::kNew) open(root);
      while (!path.empty()) {
        auto& [rule, done] = path.back();
        if (done == left_[rule].size()) {
          marks[rule] = Mark::kDone;
          path.pop_back();
          continue;
        }
        const auto next = static_cast<std::size_t>(left_[rule][done++]);
        if (marks[next] == Mark::kOpen) {
          return absl::InvalidArgumentError(
              Cat("grammar: rule '", grammar_.rules[next].name,
                  "' may begin with itself before anything is read (left recursion)"));
        }
        if (marks[next] == Mark::kNew) open(next);
      }
    }
    return absl::OkStatus();
  }

 private:
  // The rules that may run first in `node`.
  void Collect(std::int32_t node, std::vector<std::int32_t>& rules) const {
    const Expr& expr = grammar_.nodes[static_cast<std::size_t>(node)];
    if (expr.kind == Expr::Kind::kRule) rules.push_back(expr.rule);
    for (const std::int32_t child : expr.children) {
      Collect(child, rules);
      if (expr.kind == Expr::Kind::kSequence && !emptiness_.CanBeEmpty(child)) return;
    }
  }

  const Grammar& grammar_;
  const Emptiness& emptiness_;
  std::vector<std::vector<std::int32_t>> left_;
};

// The UTF-8 of a range of characters, cut into runs whose bytes vary each on its own.
using ByteRange = std::pair<std::uint8_t, std::uint8_t>;

std::size_t Utf8Length(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

std::array<std::uint8_t, 4> EncodeUtf8(char32_t c) {
  const std::size_t length = Utf8Length(c);
  constexpr std::array<std::uint8_t, 5> kLead = {0, 0x00, 0xC0, 0xE0, 0xF0};
  std::array<std::uint8_t, 4> bytes{};
  for (std::size_t i = length; i-- > 1; c >>= 6)
    bytes[i] = static_cast<std::uint8_t>(0x80 | (c & 0x3F));
  bytes[0] = static_cast<std::uint8_t>(kLead[length] | c);
  return bytes;
}

void CutUtf8(char32_t first, char32_t last, std::vector<std::vector<ByteRange>>& runs) {
  for (const char32_t end : {char32_t{0x7F}, char32_t{0x7FF}, char32_t{0xFFFF}}) {
    if (first <= end && last > end) {
      CutUtf8(first, end, runs);
      return CutUtf8(end + 1, last, runs);
    }
  }
  const std::size_t length = Utf8Length(first);
  for (std::size_t i = 1; i < length; ++i) {
    // The bytes behind this one run from lowest to highest, or the range is cut there.
    const char32_t mask = (char32_t{1} << (6 * i)) - 1;
    if ((first & ~mask) == (last & ~mask)) continue;
    if ((first & mask) != 0) {
      CutUtf8(first, first | mask, runs);
      return CutUtf8((first | mask) + 1, last, runs);
    }
    if ((last & mask) != mask) {
      CutUtf8(first, (last & ~mask) - 1, runs);
      return CutUtf8(last & ~mask, last, runs);
    }
  }
  const std::array<std::uint8_t, 4> low = EncodeUtf8(first);
  const std::array<std::uint8_t, 4> high = EncodeUtf8(last);
  std::vector<ByteRange> run;
  for (std::size_t i = 0; i < length; ++i) run.emplace_back(low[i], high[i]);
  runs.push_back(std::move(run));
}

class Compiler {
 public:
  explicit Compiler(const Grammar& grammar) : grammar_(grammar), starts_(grammar.rules.size(), 0) {}

  absl::StatusOr<GrammarProgram> Compile() {
    // A rule's first instruction is known to those that call it before the rule is there.
    for (std::size_t i = 0; i < starts_.size(); ++i) starts_[i] = Add({});
    for (std::size_t i = 0; i < starts_.size() && !full_; ++i) {
      const std::int32_t end = Add({});
      const std::int32_t body = Emit(grammar_.rules[i].body, end);
      // A split with one way: rules begin where starts_ says.
      At(starts_[i]) = {.kind = GrammarOp::Kind::kSplit, .next = body, .other = body};
    }
    if (full_) {
      return absl::InvalidArgumentError(
          Cat("grammar: expected at most ", kMaxProgramOps, " instructions, found more"));
    }
    program_.start = starts_[static_cast<std::size_t>(grammar_.root)];
    MarkAlive();
    if (!At(program_.start).alive)
      return absl::InvalidArgumentError("grammar: there is no text that it matches");
    return std::move(program_);
  }

 private:
  GrammarOp& At(std::int32_t op) { return program_.ops[static_cast<std::size_t>(op)]; }

  std::int32_t Add(GrammarOp op) {
    full_ = full_ || program_.ops.size() >= kMaxProgramOps;
    if (full_) return 0;
    program_.ops.push_back(op);
    return static_cast<std::int32_t>(program_.ops.size()) - 1;
  }

  std::int32_t AddBytes(const ByteSet& set, std::int32_t next) {
    const auto [it, added] = sets_.emplace(set, static_cast<std::int32_t>(program_.sets.size()));
    if (added) program_.sets.push_back(set);
    return Add({.kind = GrammarOp::Kind::kBytes, .next = next, .index = it->second});
  }

  // The instructions of `node`, after which `next` runs. Gives the first one.
  std::int32_t Emit(std::int32_t node, std::int32_t next) {
    if (full_) return 0;
    const Expr& expr = grammar_.nodes[static_cast<std::size_t>(node)];
    switch (expr.kind) {
      case Expr::Kind::kChars:
        return EmitChars(expr.chars, next);
      case Expr::Kind::kSequence:
        for (std::size_t i = expr.children.size(); i-- > 0;) next = Emit(expr.children[i], next);
        return next;
      case Expr::Kind::kChoice: {
        std::int32_t first = Emit(expr.children.back(), next);
        for (std::size_t i = expr.children.size() - 1; i-- > 0;) {
          const std::int32_t way = Emit(expr.children[i], next);
          first = Add({.kind = GrammarOp::Kind::kSplit, .next = way, .other = first});
        }
        return first;
      }
      case Expr::Kind::kRepeat:
        return EmitRepeat(expr, next);
      case Expr::Kind::kRule:
        return Add({.kind = GrammarOp::Kind::kCall,
                    .next = next,
                    .other = starts_[static_cast<std::size_t>(expr.rule)]});
    }
    return next;
  }

  std::int32_t EmitChars(const std::vector<CharRange>& chars, std::int32_t next) {
    ByteSet ascii;
    std::vector<std::vector<ByteRange>> runs;
    for (const auto& [first, last] : chars) {
      for (char32_t c = first; c <= std::min<char32_t>(last, 0x7F); ++c) ascii.set(c);
      if (last > 0x7F) CutUtf8(std::max<char32_t>(first, 0x80), last, runs);
    }
    std::int32_t all = ascii.any() || runs.empty() ? AddBytes(ascii, next) : -1;
    for (const std::vector<ByteRange>& run : runs) {
      std::int32_t way = next;
      for (std::size_t i = run.size(); i-- > 0;) {
        ByteSet set;
        for (unsigned b = run[i].first; b <= run[i].second; ++b) set.set(b);
        way = AddBytes(set, way);
      }
      all = all < 0 ? way : Add({.kind = GrammarOp::Kind::kSplit, .next = way, .other = all});
    }
    return all;
  }

  std::int32_t EmitRepeat(const Expr& expr, std::int32_t next) {
    const std::int32_t body = expr.children[0];
    if (expr.most == 0) return next;
    if (expr.most == kUnbounded && expr.least <= 1) {
      const std::int32_t loop = Add({.kind = GrammarOp::Kind::kSplit, .other = next});
      const std::int32_t first = Emit(body, loop);
      if (!full_) At(loop).next = first;
      return expr.least == 0 ? loop : first;
    }
    const std::int64_t copies = CopiesOf(expr);
    // A rule is one part to copy, whatever it holds.
    if (copies * SizeOf(body, kMostCopied) > kMostCopied) {
      const std::int32_t repeat = Add(
          {.kind = GrammarOp::Kind::kRepeat, .next = next, .least = expr.least, .most = expr.most});
      const std::int32_t end = Add({.kind = GrammarOp::Kind::kRepeatEnd, .other = repeat});
      const std::int32_t first = Emit(body, end);
      if (!full_) At(repeat).other = first;
      return repeat;
    }
    std::int32_t first = next;
    if (expr.most == kUnbounded) {
      first = Add({.kind = GrammarOp::Kind::kSplit, .other = next});
      const std::int32_t again = Emit(body, first);
      if (!full_) At(first).next = again;
    }
    for (std::int32_t i = expr.least; i < expr.most; ++i) {
      const std::int32_t way = Emit(body, first);
      first = Add({.kind = GrammarOp::Kind::kSplit, .next = way, .other = next});
    }
    for (std::int32_t i = 0; i < expr.least; ++i) first = Emit(body, first);
    return first;
  }

  // How many parts `node` has; not more than `most` + 1 are counted.
  std::int64_t SizeOf(std::int32_t node, std::int64_t most) const {
    const Expr& expr = grammar_.nodes[static_cast<std::size_t>(node)];
    std::int64_t size = 1;
    // A class of many characters takes many instructions.
    if (expr.kind == Expr::Kind::kChars && !expr.chars.empty() && expr.chars.back().second > 0x7F)
      size += 8;
    for (const std::int32_t child : expr.children) {
      if (size > most) return size;
      size += SizeOf(child, most - size);
    }
    return expr.kind == Expr::Kind::kRepeat ? size * CopiesOf(expr) : size;
  }

  static std::int64_t CopiesOf(const Expr& repeat) {
    return repeat.most == kUnbounded ? std::max(repeat.least, 1) + std::int64_t{1}
                                     : std::max(repeat.most, 1);
  }

  bool IsAlive(const GrammarOp& op) {
    switch (op.kind) {
      case GrammarOp::Kind::kReturn:
      case GrammarOp::Kind::kRepeatEnd:
        return true;
      case GrammarOp::Kind::kBytes:
        return program_.sets[static_cast<std::size_t>(op.index)].any() && At(op.next).alive;
      case GrammarOp::Kind::kSplit:
        return At(op.next).alive || At(op.other).alive;
      case GrammarOp::Kind::kCall:
        return At(op.next).alive && At(op.other).alive;
      case GrammarOp::Kind::kRepeat:
        return At(op.next).alive && (op.least == 0 || At(op.other).alive);
    }
    return false;
  }

  void MarkAlive() {
    // Who becomes alive through whom.
    std::vector<std::vector<std::int32_t>> waits(program_.ops.size());
    std::vector<std::int32_t> work;
    for (std::size_t i = 0; i < program_.ops.size(); ++i) {
      const GrammarOp& op = program_.ops[i];
      const auto id = static_cast<std::int32_t>(i);
      work.push_back(id);
      if (op.kind == GrammarOp::Kind::kReturn || op.kind == GrammarOp::Kind::kRepeatEnd) continue;
      waits[static_cast<std::size_t>(op.next)].push_back(id);
      if (op.kind != GrammarOp::Kind::kBytes)
        waits[static_cast<std::size_t>(op.other)].push_back(id);
    }
    while (!work.empty()) {
      const std::int32_t id = work.back();
      work.pop_back();
      if (At(id).alive || !IsAlive(At(id))) continue;
      At(id).alive = true;
      for (const std::int32_t other : waits[static_cast<std::size_t>(id)]) work.push_back(other);
    }
  }

  const Grammar& grammar_;
  GrammarProgram program_;
  std::vector<std::int32_t> starts_;
  std::unordered_map<ByteSet, std::int32_t> sets_;
  bool full_ = false;
};

}  // namespace

absl::StatusOr<GrammarProgram> CompileGrammar(const Grammar& grammar) {
  const Emptiness emptiness(grammar);
  const LeftRecursion recursion(grammar, emptiness);
  if (emptiness.exhausted())
    return absl::InvalidArgumentError("grammar: its rules depend on each other in too many ways");
  TANDEM_RETURN_IF_ERROR(recursion.Check());
  return Compiler(grammar).Compile();
}

absl::StatusOr<GrammarProgram> CompileGrammar(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const Grammar grammar, ParseGrammar(text));
  return CompileGrammar(grammar);
}

}  // namespace tandem
