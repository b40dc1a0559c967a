// Grammars, regular expressions and JSON Schemas from outside. The first byte says which; whatever
// the rest is, it is refused in words or becomes a grammar that the automaton can follow within its
// bounds: what it takes can always be continued, or is whole.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/status_macros.h"
#include "lib/constrain/automaton.h"
#include "lib/constrain/grammar_program.h"
#include "lib/constrain/json_schema.h"
#include "lib/constrain/regex.h"

namespace {

absl::StatusOr<std::string> GrammarOf(std::uint8_t kind, std::string_view text) {
  using tandem::RegexMatch;
  using tandem::RegexText;
  if (kind % 3 == 0) return std::string(text);
  if (kind % 3 == 1) return tandem::GrammarOfSchema(text);
  const auto regex =
      tandem::RegexToGrammar(text, kind % 2 == 0 ? RegexText::kPlain : RegexText::kJsonString,
                             kind % 4 < 2 ? RegexMatch::kWhole : RegexMatch::kSearch);
  if (!regex.ok()) return regex.status();
  return "root ::= " + *regex;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto grammar = GrammarOf(data[0], text);
  if (!grammar.ok()) {
    TANDEM_CHECK(!grammar.status().message().empty());
    return 0;
  }
  auto program = tandem::CompileGrammar(*grammar);
  if (!program.ok()) return 0;
  tandem::Automaton automaton(*std::move(program),
                              {.ways = 128, .memory_bytes = 1 << 20, .work = 100'000});
  tandem::Automaton::State state = automaton.start();
  // Whatever byte can come is taken, a different one at each place.
  for (int length = 0; length < 64 && state >= 0; ++length) {
    tandem::Automaton::State next = tandem::Automaton::kDead;
    for (int i = 0; i < 256 && next == tandem::Automaton::kDead; ++i)
      next = automaton.Next(state, static_cast<std::uint8_t>(i * 31 + length));
    if (next == tandem::Automaton::kDead) TANDEM_CHECK(automaton.IsFinal(state));
    state = next;
  }
  return 0;
}
