#include "gateway/ingress/request/answer_grammar.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/tool_text.h"
#include "lib/constrain/automaton.h"

namespace tandem {
namespace {

constexpr char kSchema[] =
    R"({"type":"object","properties":{"city":{"type":"string"}},"required":["city"]})";

using Kind = ResponseFormat::Kind;
using Mode = ToolChoice::Mode;

InferenceRequest WithTools(Mode mode = Mode::kAuto, std::string name = "") {
  InferenceRequest request;
  request.tools.push_back({.name = "weather", .description = "of a city", .parameters = kSchema});
  request.tools.push_back({.name = "now", .description = "", .parameters = ""});
  request.tool_choice = {.mode = mode, .name = std::move(name)};
  return request;
}

void Set(InferenceRequest& request, Kind kind, std::string definition) {
  request.response_format = {};
  request.response_format.kind = kind;
  request.response_format.definition = std::move(definition);
}

// Whether `text` is a whole answer; with `begins`, the beginning of one.
bool Allows(const InferenceRequest& request, std::string_view text, bool begins = false) {
  const auto grammar = AnswerGrammar(request);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  if (!grammar.ok()) return false;
  auto program = CompileGrammar(*grammar);
  EXPECT_TRUE(program.ok()) << program.status();
  Automaton automaton(*std::move(program));
  automaton.Refresh();
  Automaton::State state = automaton.start();
  for (const char c : text) state = automaton.Next(state, static_cast<std::uint8_t>(c));
  return state >= 0 && (begins || automaton.IsWhole(state));
}

constexpr char kCall[] = R"({"name": "weather", "parameters": {"city": "Paris"}})";
constexpr char kNow[] = R"({"name": "now", "parameters": {}})";

std::string ParamOf(const InferenceRequest& request) {
  const auto grammar = AnswerGrammar(request);
  EXPECT_FALSE(grammar.ok());
  return grammar.ok() ? "" : ToApiError(grammar.status()).param;
}

TEST(AnswerGrammar, IsNoneWhereTheAnswerIsFree) {
  EXPECT_EQ(*AnswerGrammar({}), "");
  EXPECT_EQ(*AnswerGrammar(WithTools(Mode::kNone)), "");
}

TEST(AnswerGrammar, AutoAllowsTextAndCallsButNoBrokenCalls) {
  const InferenceRequest request = WithTools();
  for (const std::string text : {"", "It rains.", "{", "{ \"city\": 1}", "\xE2\x82\xAC {\"name\""})
    EXPECT_TRUE(Allows(request, text)) << text;
  const std::string list = std::string("[") + kCall + ", " + kNow + "]";
  for (const std::string& text :
       {std::string(kCall), std::string(kNow), list, "```json\n" + list + "\n```"})
    EXPECT_TRUE(Allows(request, text)) << text;
  for (const std::string text :
       {R"({"name": "other", "parameters": {}})", R"({"name": "weather", "parameters": {}})",
        R"({"name": "weather", "parameters": {"city": "Paris"}} and)", R"({"name")",
        R"({"name": "now"})"})
    EXPECT_FALSE(Allows(request, text)) << text;
  EXPECT_TRUE(Allows(request, R"({"name": "wea)", true));
  EXPECT_FALSE(Allows(request, R"({"name": "other)", true));
}

TEST(AnswerGrammar, RequiredAndNamedAllowNothingElse) {
  const InferenceRequest required = WithTools(Mode::kRequired);
  EXPECT_TRUE(Allows(required, kCall));
  EXPECT_FALSE(Allows(required, "It rains.", true));
  EXPECT_FALSE(Allows(required, "", false));
  const InferenceRequest named = WithTools(Mode::kNamed, "now");
  EXPECT_TRUE(Allows(named, kNow));
  EXPECT_FALSE(Allows(named, kCall));
}

TEST(AnswerGrammar, OneCallWhereSeveralAreNotWanted) {
  InferenceRequest request = WithTools(Mode::kRequired);
  const std::string list = std::string("[") + kCall + ", " + kNow + "]";
  EXPECT_TRUE(Allows(request, list));
  request.parallel_tool_calls = false;
  EXPECT_FALSE(Allows(request, list));
  EXPECT_TRUE(Allows(request, kCall));
}

TEST(AnswerGrammar, ASchemaThatCannotBeEnforcedIsAnyObjectUnlessStrict) {
  InferenceRequest request = WithTools(Mode::kRequired);
  request.tools[0].parameters = R"({"type":"object","not":{}})";
  request.tools[0].field = "tools[0].function.parameters";
  EXPECT_TRUE(Allows(request, R"({"name": "weather", "parameters": {"any": [1]}})"));
  request.tools[0].strict = true;
  EXPECT_EQ(ParamOf(request), "tools[0].function.parameters");
  // Found only when it is compiled.
  request.tools[0].parameters = R"({"$ref":"#/$defs/a","$defs":{"a":{"type":"array",
      "prefixItems":[{"$ref":"#/$defs/a"}],"minItems":1,"items":false}}})";
  EXPECT_EQ(ParamOf(request), "tools[0].function.parameters");
}

TEST(AnswerGrammar, FormatsAreEnforcedOrRefusedByName) {
  InferenceRequest request;
  Set(request, Kind::kJsonObject, "");
  EXPECT_TRUE(Allows(request, R"({"a": [1, null]})"));
  EXPECT_FALSE(Allows(request, "[1]"));
  Set(request, Kind::kJsonSchema, kSchema);
  EXPECT_TRUE(Allows(request, R"({"city": "Rome"})"));
  EXPECT_FALSE(Allows(request, R"({"town": "Rome"})"));
  request.response_format.definition = R"({"multipleOf":3})";
  EXPECT_EQ(ParamOf(request), "response_format");
  request.response_format.field = "text.format.schema";
  EXPECT_EQ(ParamOf(request), "text.format.schema");
  Set(request, Kind::kRegex, "[a-c]{2}");
  EXPECT_TRUE(Allows(request, "ab"));
  EXPECT_FALSE(Allows(request, "abc"));
  request.response_format.definition = "(?=a)";
  EXPECT_EQ(ParamOf(request), "response_format");
  Set(request, Kind::kGrammar, "root ::= \"yes\" | \"no\"");
  EXPECT_TRUE(Allows(request, "no"));
  request.response_format.definition = "root ::= root";
  EXPECT_EQ(ParamOf(request), "response_format");
  request.tools = WithTools().tools;
  EXPECT_EQ(ParamOf(request), "tools");
}

TEST(AnswerGrammar, WithToolsAFormatHoldsForWhatIsNoCall) {
  InferenceRequest request = WithTools();
  Set(request, Kind::kJsonSchema, kSchema);
  EXPECT_TRUE(Allows(request, kCall));
  EXPECT_TRUE(Allows(request, R"({"city": "Rome"})"));
  EXPECT_FALSE(Allows(request, "It rains.", true));
}

// 128 tools of 4 KiB each: work grows with their number alone.
TEST(AnswerGrammar, ManyLargeToolsAreOneGrammar) {
  InferenceRequest request;
  for (int i = 0; i < 128; ++i) {
    std::string schema = R"({"type":"object","properties":{)";
    for (int p = 0; p < 40; ++p) {
      schema.append(p == 0 ? "" : ",");
      schema.append("\"p").append(std::to_string(p)).append(R"(":{"type":"string","maxLength":9})");
    }
    std::string name = "tool_";
    name.append(std::to_string(i));
    request.tools.push_back({.name = name, .description = "", .parameters = schema + "}}"});
  }
  const auto grammar = AnswerGrammar(request);
  if (grammar.ok()) {
    EXPECT_TRUE(Allows(request, R"({"name": "tool_127", "parameters": {"p3": "x"}})"));
  } else {
    EXPECT_EQ(ToApiError(grammar.status()).http_status, 400);
  }
}

TEST(ToolText, TellsOfToolsInTheDocumentedFormat) {
  EXPECT_EQ(ToolInstructions({}, true), "");
  EXPECT_EQ(ToolInstructions(WithTools().tools, true),
            "You have access to functions. If you decide to invoke any of the function(s), you "
            "MUST put it in the format of\n"
            "{\"name\": function name, \"parameters\": dictionary of argument name and its value}\n"
            "To invoke several functions, put them in a list: [{\"name\": ...}, {\"name\": ...}]\n"
            "\nYou SHOULD NOT include any other text in the response if you call a function\n"
            "[\n"
            "{\"name\": \"weather\", \"description\": \"of a city\", \"parameters\": {\"type\": "
            "\"object\", \"properties\": {\"city\": {\"type\": \"string\"}}, \"required\": "
            "[\"city\"]}},\n"
            "{\"name\": \"now\"}\n"
            "]");
  EXPECT_EQ(ToolInstructions(WithTools().tools, false).find("several"), std::string::npos);
}

TEST(ToolText, WhatIsCalledIsWhatMayBeAnswered) {
  const InferenceRequest request = WithTools(Mode::kRequired);
  const ToolCall weather{.id = "1", .name = "weather", .arguments = R"({"city":"Paris"})"};
  const ToolCall now{.id = "2", .name = "now", .arguments = "{}"};
  EXPECT_EQ(ToolCallsText({weather}), kCall);
  EXPECT_TRUE(Allows(request, ToolCallsText({weather, now})));
  EXPECT_EQ(ToolOutputText("weather", R"({"celsius":[2,3]})"),
            "```tool_output\n{\"name\": \"weather\", \"output\": {\"celsius\": [2, 3]}}\n```");
  EXPECT_EQ(ToolOutputText("", "a \"b\""), "```tool_output\n{\"output\": \"a \\\"b\\\"\"}\n```");
}

}  // namespace
}  // namespace tandem
