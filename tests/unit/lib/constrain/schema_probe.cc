// Reads one JSON object a line, {"schema": TEXT, "texts": [TEXT, ...]} (or "grammar" or "regex"
// instead of "schema"), and answers each with a line: {"refused": MESSAGE}, or {"matches": [BOOL,
// ...]} saying which texts the grammar made of it matches as a whole. With {"samples": N, "seed": S}
// there are also "samples": texts that the grammar allows, one random byte after another. For the
// tests in Python.

#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

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

// After some bytes what closes is preferred, so that texts come to their end; "" for one that does
// not.
std::string Sample(Automaton& automaton, std::mt19937& random) {
  constexpr std::size_t kPatience = 120;
  constexpr std::size_t kMost = 20000;
  std::string text;
  Automaton::State state = automaton.start();
  while (text.size() < kMost) {
    automaton.Refresh();
    if (automaton.IsFinal(state) || (automaton.IsWhole(state) && random() % 4 == 0)) return text;
    std::vector<std::uint8_t> bytes;
    for (int byte = 0; byte < 256; ++byte) {
      if (automaton.Next(state, static_cast<std::uint8_t>(byte)) >= 0)
        bytes.push_back(static_cast<std::uint8_t>(byte));
    }
    if (bytes.empty()) return automaton.IsWhole(state) ? text : "";
    std::uint8_t next = bytes[random() % bytes.size()];
    for (const char close : std::string_view("\"]}")) {
      const auto byte = static_cast<std::uint8_t>(close);
      const bool possible = automaton.Next(state, byte) >= 0;
      if (possible && (text.size() > kPatience || random() % 8 == 0)) next = byte;
    }
    text.push_back(static_cast<char>(next));
    state = automaton.Next(state, next);
  }
  return "";
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
  nlohmann::json samples = nlohmann::json::array();
  std::mt19937 random(question.value("seed", 0U));
  for (int i = 0; i < question.value("samples", 0); ++i)
    samples.push_back(Sample(automaton, random));
  return {{"matches", matches}, {"samples", samples}};
}

}  // namespace
}  // namespace tandem

int main() {
  std::string line;
  while (std::getline(std::cin, line))
    std::cout << tandem::Answer(nlohmann::json::parse(line)).dump() << std::endl;
}
