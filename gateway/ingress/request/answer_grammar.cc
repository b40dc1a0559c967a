#include "gateway/ingress/request/answer_grammar.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/tool_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/constrain/grammar_program.h"
#include "lib/constrain/json_grammar.h"
#include "lib/constrain/json_schema.h"
#include "lib/constrain/regex.h"

namespace tandem {
namespace {

// White space that a call may have where models like to put it: none, a space, or a new line.
constexpr std::string_view kGap = "(\" \" | \"\\n\" \" \"{0,8})?";
constexpr std::string_view kSpace = "(\" \" | \"\\n\" \" \"{0,8})";

absl::Status WrongField(const std::string& field, const absl::Status& status) {
  return InvalidField(field, Cat("'", field, "': ", std::string(status.message())));
}

// The text's expression without tools; "" where there is no constraint.
absl::StatusOr<std::string> FormatExpression(const ResponseFormat& format, GrammarText& grammar) {
  switch (format.kind) {
    case ResponseFormat::Kind::kText:
      return "";
    case ResponseFormat::Kind::kJsonObject:
      return std::string(kJsonObject);
    case ResponseFormat::Kind::kJsonSchema: {
      absl::StatusOr<std::string> schema = SchemaToGrammar(format.definition, grammar);
      if (!schema.ok()) return WrongField(format.field, schema.status());
      return schema;
    }
    case ResponseFormat::Kind::kRegex: {
      absl::StatusOr<std::string> regex =
          RegexToGrammar(format.definition, RegexText::kPlain, RegexMatch::kWhole);
      if (!regex.ok()) return WrongField(format.field, regex.status());
      return regex;
    }
    case ResponseFormat::Kind::kGrammar:
      break;
  }
  return absl::InternalError("a grammar is no expression");
}

absl::StatusOr<std::string> ArgumentsExpression(const Tool& tool, GrammarText& grammar) {
  if (tool.parameters.empty()) return std::string("\"{}\"");
  // Alone first: some schemas are found to be impossible only when they are compiled.
  GrammarText alone;
  const absl::StatusOr<std::string> tried = SchemaToGrammar(tool.parameters, alone);
  absl::Status status = tried.status();
  if (status.ok()) status = CompileGrammar(alone.Finish(*tried)).status();
  if (status.ok()) return SchemaToGrammar(tool.parameters, grammar);
  if (tool.strict) return WrongField(tool.field, status);
  return std::string(kJsonObject);
}

// One call, of any tool that may be called.
absl::StatusOr<std::string> CallExpression(const InferenceRequest& request, GrammarText& grammar) {
  std::string any;
  for (const Tool& tool : request.tools) {
    if (request.tool_choice.mode == ToolChoice::Mode::kNamed &&
        request.tool_choice.name != tool.name)
      continue;
    TANDEM_ASSIGN_OR_RETURN(const std::string arguments, ArgumentsExpression(tool, grammar));
    any.append(Cat(any.empty() ? "" : " | ",
                   LiteralText(Cat(nlohmann::json(tool.name).dump(), ",")), " ", kSpace, " ",
                   LiteralText("\"parameters\": "), " ", arguments));
  }
  return grammar.Rule(
      Cat("\"{\" ", kGap, " ", LiteralText("\"name\": "), " (", any, ") ", kGap, " \"}\""));
}

absl::StatusOr<std::string> CallsExpression(const InferenceRequest& request, GrammarText& grammar) {
  TANDEM_ASSIGN_OR_RETURN(const std::string call, CallExpression(request, grammar));
  if (!request.parallel_tool_calls) return call;
  return grammar.Rule(
      Cat(call, " | \"[\" \"\\n\"? ", call, " (\",\" ", kSpace, " ", call, ")* \"\\n\"? \"]\""));
}

// Calls, or where they need not be, what the answer is without them.
absl::StatusOr<std::string> WithCalls(const InferenceRequest& request, std::string without,
                                      GrammarText& grammar) {
  TANDEM_ASSIGN_OR_RETURN(std::string calls, CallsExpression(request, grammar));
  if (request.tool_choice.mode != ToolChoice::Mode::kAuto) return calls;
  const std::string fenced =
      Cat("\"```\" (\"json\" | \"tool_code\")? \"\\n\" ", calls, " \"\\n```\"");
  if (without.empty()) without = OtherText(grammar, CallBeginnings(), Other::kPrefixes, {});
  return Cat(calls, " | ", fenced, " | ", without);
}

}  // namespace

bool MayCallTools(const InferenceRequest& request) {
  return !request.tools.empty() && request.tool_choice.mode != ToolChoice::Mode::kNone;
}

absl::StatusOr<std::string> AnswerGrammar(const InferenceRequest& request) {
  const ResponseFormat& format = request.response_format;
  const bool calls = MayCallTools(request);
  const bool is_grammar = format.kind == ResponseFormat::Kind::kGrammar;
  if (is_grammar && calls)
    return InvalidField("tools", "'tools': not together with a grammar for the answer");
  std::string whole;
  if (is_grammar) {
    whole = format.definition;
  } else {
    GrammarText grammar;
    TANDEM_ASSIGN_OR_RETURN(std::string root, FormatExpression(format, grammar));
    if (calls) {
      TANDEM_ASSIGN_OR_RETURN(root, WithCalls(request, std::move(root), grammar));
    }
    if (root.empty()) return "";
    whole = grammar.Finish(root);
  }
  const absl::Status compiled = CompileGrammar(whole).status();
  if (compiled.ok()) return whole;
  return WrongField(format.kind == ResponseFormat::Kind::kText ? "tools" : format.field, compiled);
}

}  // namespace tandem
