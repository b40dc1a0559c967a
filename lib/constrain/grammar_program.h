#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/constrain/ebnf.h"

namespace tandem {

using ByteSet = std::bitset<256>;

// One instruction of a machine with a stack, which reads UTF-8 a byte at a time. Several ways may
// be open at once: automaton.h follows all of them.
struct GrammarOp {
  enum class Kind : std::uint8_t {
    // Reads one byte of sets[index], goes to next.
    kBytes,
    // Goes to next and to other.
    kSplit,
    // Runs the rule that begins at other, then next.
    kCall,
    // Ends the rule.
    kReturn,
    // Runs the body at other between least and most times, then next.
    kRepeat,
    // Ends the body of the kRepeat at other.
    kRepeatEnd,
  };
  Kind kind = Kind::kReturn;
  // It can come to the end of its rule. The others are never gone to, so what is open can always be
  // finished.
  bool alive = false;
  std::int32_t next = 0;
  std::int32_t other = 0;
  std::int32_t index = 0;
  std::int32_t least = 0;
  std::int32_t most = kUnbounded;
};

struct GrammarProgram {
  std::vector<GrammarOp> ops;
  std::vector<ByteSet> sets;
  // Where the rule root begins.
  std::int32_t start = 0;
};

inline constexpr std::size_t kMaxProgramOps = std::size_t{1} << 18;

// INVALID_ARGUMENT, naming the rule: it may begin with itself before it has read anything (left
// recursion), no text is ever whole, or the program goes over kMaxProgramOps.
absl::StatusOr<GrammarProgram> CompileGrammar(const Grammar& grammar);
// Both at once.
absl::StatusOr<GrammarProgram> CompileGrammar(std::string_view text);

}  // namespace tandem
