#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/constrain/automaton.h"
#include "lib/constrain/grammar_program.h"
#include "lib/constrain/json_grammar.h"
#include "lib/constrain/json_schema.h"
#include "lib/constrain/number_range.h"
#include "lib/constrain/regex.h"

namespace tandem {
namespace {

bool Matches(std::string_view grammar, std::string_view text) {
  absl::StatusOr<GrammarProgram> program = CompileGrammar(grammar);
  EXPECT_TRUE(program.ok()) << program.status() << "\n" << grammar;
  if (!program.ok()) return false;
  Automaton automaton(*std::move(program));
  Automaton::State state = automaton.start();
  for (const char c : text) state = automaton.Next(state, static_cast<std::uint8_t>(c));
  return state >= 0 && automaton.IsWhole(state);
}

void ExpectError(std::string_view grammar, std::string_view message) {
  const absl::Status status = CompileGrammar(grammar).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << grammar;
  EXPECT_NE(std::string(status.message()).find(message), std::string::npos) << status;
}

TEST(Grammar, ReadsWhatPeopleWrite) {
  const char* grammar =
      "# an address\nroot ::= name \" <\" name \"@\" host \">\" # and no more\n"
      "name ::= [a-zA-Z] [a-z\\-.]{0,4}\n"
      "host ::= label (\".\" label){1,2}\nlabel ::= [^.\\x00- <>@]+";
  EXPECT_TRUE(Matches(grammar, "Ann <ann@example.org>"));
  EXPECT_TRUE(Matches(grammar, "A <a-.b@\xC3\xA9t\xC3\xA9.fr>"));
  EXPECT_FALSE(Matches(grammar, "Ann <ann@example>"));
  EXPECT_FALSE(Matches(grammar, "Annabelle <ann@example.org>"));
}

TEST(Grammar, CountsFar) {
  const char* grammar = "root ::= [ab]{100,300} \"!\"";
  EXPECT_FALSE(Matches(grammar, std::string(99, 'a') + "!"));
  EXPECT_TRUE(Matches(grammar, std::string(100, 'a') + "!"));
  EXPECT_TRUE(Matches(grammar, std::string(300, 'b') + "!"));
  EXPECT_FALSE(Matches(grammar, std::string(301, 'b') + "!"));
  std::string pairs;
  for (int i = 0; i < 60; ++i) pairs += "1a";
  EXPECT_TRUE(Matches("root ::= ([0-9] [a-z]){50,}", pairs));
  EXPECT_FALSE(Matches("root ::= ([0-9] [a-z]){61,}", pairs));
}

TEST(Grammar, NestsAsDeepAsTheTextDoes) {
  const char* grammar = "root ::= \"(\" root \")\" | \"x\"";
  EXPECT_TRUE(Matches(grammar, std::string(500, '(') + "x" + std::string(500, ')')));
  EXPECT_FALSE(Matches(grammar, std::string(500, '(') + "x" + std::string(499, ')')));
  // Rules that end with themselves leave nothing on the stack.
  EXPECT_TRUE(Matches("root ::= \"a\" root | \"\"", std::string(20000, 'a')));
}

TEST(Grammar, CutsCharactersIntoBytes) {
  for (const char32_t range : {U'\u0080', U'\u07FF', U'\u0800', U'\uD7FF', U'\U00010000'}) {
    const std::string grammar = "root ::= " + ClassText({{range, range + 70}});
    EXPECT_TRUE(CompileGrammar(grammar).ok()) << grammar;
  }
  EXPECT_TRUE(Matches("root ::= [\\u00E9-\\U0001F600]", "\xF0\x9F\x98\x80"));
  EXPECT_FALSE(Matches("root ::= [\\u00E9-\\U0001F600]", "\xF0\x9F\x98\x81"));
  EXPECT_FALSE(Matches("root ::= .", "\xED\xA0\x80"));
  EXPECT_FALSE(Matches("root ::= .", "\xC0\x80"));
  EXPECT_TRUE(Matches("root ::= [^a]", "\xE2\x82\xAC"));
}

TEST(Grammar, ErrorsSayWhereAndWhat) {
  ExpectError("", "a rule named root");
  ExpectError("root ::= a", "no rule named 'a'");
  ExpectError("root ::= \"a\"\nroot ::= \"b\"", "the second");
  ExpectError("root ::= \"a", "line 1, column 12");
  ExpectError("root ::= (\"a\"", "expected ')'");
  ExpectError("root ::= [z-a]", "ascends");
  ExpectError("root ::= \"a\"{3,2}", "second bound");
  ExpectError("root ::= \"a\"{9999999}", "repetitions");
  ExpectError("root ::= root \"a\" | \"a\"", "left recursion");
  ExpectError("root ::= \"\" b\nb ::= \"x\"? root", "left recursion");
  ExpectError("root ::= \"a\" root", "no text that it matches");
  ExpectError("root ::= []", "no text that it matches");
  ExpectError("root ::= \"\xFF\"", "a character");
  ExpectError("root ::= " + std::string(1000, '('), "nested");
  ExpectError("root ::= " + std::string(kMaxGrammarBytes, ' '), "bytes");
}

TEST(Regex, TranslatesWhatItCanEnforce) {
  const auto whole = [](std::string_view regex, std::string_view text) {
    const auto expression = RegexToGrammar(regex, RegexText::kPlain, RegexMatch::kWhole);
    EXPECT_TRUE(expression.ok()) << expression.status();
    return Matches("root ::= " + expression.value_or("[]"), text);
  };
  EXPECT_TRUE(whole("^(?:\\d{3}-)?\\d{4}$", "555-1234"));
  EXPECT_FALSE(whole("^(?:\\d{3}-)?\\d{4}$", "555-12345"));
  EXPECT_TRUE(whole("a|b*?|[^\\w\\s]+", "\xE2\x82\xAC!"));
  EXPECT_TRUE(whole("(?<year>\\d+)[\\-/]\\x41", "2024/A"));
  for (const char* regex : {"(?=a)b", "(?!a)b", "(a)\\1", "\\bword", "a^b", "(a$)b", "\\p{L}",
                            "a{2", "[b-a]", "a**", "(", "[a"}) {
    EXPECT_FALSE(RegexToGrammar(regex, RegexText::kPlain, RegexMatch::kWhole).ok()) << regex;
  }
}

TEST(NumberRange, EqualsArithmetic) {
  const std::int64_t bounds[] = {-1205, -100, -99, -7, -1, 0, 1, 9, 10, 11, 99, 100, 345};
  for (const std::int64_t least : bounds) {
    for (const std::int64_t most : bounds) {
      const std::string range = IntegerRange(least, most);
      const absl::StatusOr<GrammarProgram> program = CompileGrammar("root ::= " + range);
      EXPECT_EQ(program.ok(), least <= most) << least << " " << most;
      if (!program.ok()) continue;
      Automaton automaton(*program);
      for (std::int64_t value = -1300; value <= 400; ++value) {
        Automaton::State state = automaton.start();
        for (const char c : std::to_string(value))
          state = automaton.Next(state, static_cast<std::uint8_t>(c));
        const bool matches = state >= 0 && automaton.IsWhole(state);
        ASSERT_EQ(matches, least <= value && value <= most) << value;
      }
    }
  }
}

TEST(NumberRange, DecimalsStayInside) {
  struct Case {
    Decimal least, most;
    double low, high;
  };
  const Case cases[] = {
      {{false, 0, "", true}, {false, 1, "", true}, 0, 1},
      {{false, 0, "1", true}, {false, 0, "9", false}, 0.1, 0.9},
      {{true, 2, "5", false}, {false, 3, "25", true}, -2.5, 3.25},
      {{false, 1, "05", true}, {false, 1, "051", true}, 1.05, 1.051},
      {{true, 0, "75", true}, {true, 0, "25", true}, -0.75, -0.25},
  };
  for (const Case& one : cases) {
    const absl::StatusOr<GrammarProgram> program =
        CompileGrammar("root ::= " + DecimalRange(one.least, one.most));
    ASSERT_TRUE(program.ok()) << program.status();
    Automaton automaton(*program);
    int matched = 0;
    for (int thousandths = -3000; thousandths <= 4000; ++thousandths) {
      char text[32];
      std::snprintf(text, sizeof(text), "%.3f", thousandths / 1000.0);
      Automaton::State state = automaton.start();
      for (const char* c = text; *c != 0; ++c)
        state = automaton.Next(state, static_cast<std::uint8_t>(*c));
      if (state < 0 || !automaton.IsWhole(state)) continue;
      ++matched;
      EXPECT_GE(std::stod(text), one.low);
      EXPECT_LE(std::stod(text), one.high);
      EXPECT_TRUE(one.least.included || std::stod(text) != one.low) << text;
      EXPECT_TRUE(one.most.included || std::stod(text) != one.high) << text;
    }
    EXPECT_GT(matched, 0);
  }
}

TEST(OtherText, IsEverythingElse) {
  GrammarText grammar;
  const std::string others = OtherText(grammar, {"name", "nam", "", "\xC3\xA9t\xC3\xA9", "a]b"},
                                       Other::kWords, JsonEscaped());
  const std::string text = grammar.Finish(others);
  for (const char* word : {"name", "nam", "", "\xC3\xA9t\xC3\xA9", "a]b", "a\"b", "a\\b", "\n"})
    EXPECT_FALSE(Matches(text, word)) << word;
  for (const char* word : {"n", "na", "names", "x", "\xC3\xA9", "\xC3\xA9t\xC3\xA9s", "a]", "]"})
    EXPECT_TRUE(Matches(text, word)) << word;
  const std::string prefixes =
      grammar.Finish(OtherText(grammar, {"{\"name\"", "["}, Other::kPrefixes, {}));
  for (const char* word : {"{\"name\"", "{\"name\": 1", "[", "[x"})
    EXPECT_FALSE(Matches(prefixes, word)) << word;
  for (const char* word : {"", "{", "{\"name", "hello {\"name\"", "{\"nam\"", "\n["})
    EXPECT_TRUE(Matches(prefixes, word)) << word;
}

TEST(Schema, RefusesInWords) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"type":"object","patternProperties":{"a":{}}})", "'patternProperties'"},
      {R"({"properties":{"a":{"not":{}}}})", "#/properties/a: 'not'"},
      {R"({"type":"array","uniqueItems":true})", "'uniqueItems'"},
      {R"({"$ref":"#"})", "left recursion"},
      {R"({"allOf":[{"$ref":"#"}]})", "leads to itself"},
      {R"({"$ref":"#/$defs/x"})", "points to nothing"},
      {R"({"$ref":"http://example.org/x"})", "into this very schema"},
      {R"({"type":"strin"})", "#/type"},
      {R"({"type":"string","format":"unheard"})", "'unheard'"},
      {R"J({"type":"string","pattern":"(?=a)"})J", "'pattern'"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "both 0 and 1"},
      {R"({"frobnicate":1})", "'frobnicate'"},
      {R"([1])", "expected an object or a boolean"},
      {R"({"a")", "schema"},
  };
  for (const auto& [schema, message] : cases) {
    const auto grammar = GrammarOfSchema(schema);
    const absl::Status status = grammar.ok() ? CompileGrammar(*grammar).status() : grammar.status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << schema;
    EXPECT_NE(std::string(status.message()).find(message), std::string::npos) << status;
  }
}

TEST(Schema, OneOfTellsApartByAConst) {
  const auto grammar = GrammarOfSchema(
      R"({"oneOf":[{"type":"object","properties":{"kind":{"const":"a"},"n":{"type":"integer"}},"required":["kind","n"]},
                   {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]}]})");
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  EXPECT_TRUE(Matches(*grammar, R"({"kind": "a", "n": 3})"));
  EXPECT_TRUE(Matches(*grammar, R"({"kind": "b"})"));
  EXPECT_FALSE(Matches(*grammar, R"({"kind": "a"})"));
}

TEST(Schema, HostileOnesEndInWords) {
  std::string deep = "{}";
  for (int i = 0; i < 200; ++i) deep = absl::StrCat(R"({"items":)", deep, "}");
  EXPECT_FALSE(GrammarOfSchema(deep).ok());
  std::string wide = R"({"allOf":[)";
  for (int i = 0; i < 12; ++i)
    wide += std::string(i > 0 ? "," : "") +
            R"({"anyOf":[{"minLength":1},{"maxLength":9},{"minimum":1}]})";
  EXPECT_FALSE(GrammarOfSchema(wide + "]}").ok());
  // Each step doubles what merging makes of it.
  std::string doubling =
      R"({"$defs":{"d0":{"type":"object","properties":{"a":{"$ref":"#/$defs/d0"}}})";
  for (int i = 1; i < 30; ++i) {
    const std::string before = R"({"$ref":"#/$defs/d)" + std::to_string(i - 1) + "\"}";
    doubling += ",\"d" + std::to_string(i) + R"(":{"allOf":[)" + before + "," + before + "]}";
  }
  (void)GrammarOfSchema(doubling + R"(},"$ref":"#/$defs/d29"})");
  std::string many = R"({"properties":{)";
  for (int i = 0; i < 6000; ++i)
    absl::StrAppend(&many, i > 0 ? ",\"" : "\"", i, R"(":{"type":"integer"})");
  EXPECT_FALSE(GrammarOfSchema(many + R"(},"additionalProperties":{"type":"null"}})").ok());
}

}  // namespace
}  // namespace tandem
