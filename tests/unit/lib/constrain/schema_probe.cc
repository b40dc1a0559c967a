// Reads one JSON object a line, {"schema": TEXT, "texts": [TEXT, ...]} (or "grammar" or "regex"
// instead of "schema"), and answers each with a line: {"refused": MESSAGE}, or {"matches": [BOOL,
// ...]} saying which texts the grammar made of it matches as a whole. For the tests in Python.

#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "lib/constrain/automaton.h"
#include "lib/constrain/grammar_program.h"
#include "lib/constrain/json_schema.h"
#include "lib/constrain/regex.h"

namespace tandem {
namespace {

absl::StatusOr<std::string> GrammarOf(const nlohmann::json& question) {
  if (question.contains("grammar")) return question["grammar"].get<std::string>();
  if (question.contains("schema")) return GrammarOfSchema(question["schema"].get<std::string>());
  const absl::StatusOr<std::string> regex =
      RegexToGrammar(question["regex"].get<std::string>(), RegexText::kPlain, RegexMatch::kWhole);
  if (!regex.ok()) return regex.status();
  return "root ::= " + *regex;
}

nlohmann::json Answer(const nlohmann::json& question) {
  const absl::StatusOr<std::string> grammar = GrammarOf(question);
  if (!grammar.ok()) return {{"refused", std::string(grammar.status().message())}};
  absl::StatusOr<GrammarProgram> program = CompileGrammar(*grammar);
  if (!program.ok()) return {{"refused", std::string(program.status().message())}};
  Automaton automaton(*std::move(program));
  nlohmann::json matches = nlohmann::json::array();
  for (const auto& entry : question["texts"]) {
    automaton.Refresh();
    Automaton::State state = automaton.start();
    for (const char c : entry.get<std::string>())
      state = automaton.Next(state, static_cast<std::uint8_t>(c));
    matches.push_back(state >= 0 && automaton.IsWhole(state));
  }
  return {{"matches", matches}};
}

}  // namespace
}  // namespace tandem

int main() {
  std::string line;
  while (std::getline(std::cin, line))
    std::cout << tandem::Answer(nlohmann::json::parse(line)).dump() << std::endl;
}
