#include "gateway/ingress/request/tool_text.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "lib/base/json.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kInstructions =
    "You have access to functions. If you decide to invoke any of the function(s), you MUST put it "
    "in the format of\n"
    "{\"name\": function name, \"parameters\": dictionary of argument name and its value}\n";
constexpr std::string_view kSeveral =
    "To invoke several functions, put them in a list: [{\"name\": ...}, {\"name\": ...}]\n";
constexpr std::string_view kAlone =
    "\nYou SHOULD NOT include any other text in the response if you call a function\n";

std::string Quoted(std::string_view text) { return OrderedJson(text).dump(); }

// Spelled as structured answers are (lib/constrain/json_grammar.h): ", " and ": " between.
std::string Spelled(const OrderedJson& value) {
  if (!value.is_structured()) return value.dump();
  std::string text(1, value.is_object() ? '{' : '[');
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (it != value.begin()) text.append(", ");
    if (value.is_object()) text.append(Quoted(it.key())).append(": ");
    text.append(Spelled(*it));
  }
  return text + (value.is_object() ? '}' : ']');
}

// `text` in that spelling, where it is JSON.
std::string Respelled(const std::string& text) {
  return ParseJson(text).ok() ? Spelled(OrderedJson::parse(text)) : Quoted(text);
}

std::string CallText(const ToolCall& call) {
  return Cat("{\"name\": ", Quoted(call.name), ", \"parameters\": ", Respelled(call.arguments),
             "}");
}

}  // namespace

std::string ToolInstructions(const std::vector<Tool>& tools, bool parallel) {
  if (tools.empty()) return "";
  std::string text = Cat(kInstructions, parallel ? kSeveral : std::string_view(), kAlone, "[\n");
  for (const Tool& tool : tools) {
    text.append(Cat("{\"name\": ", Quoted(tool.name)));
    if (!tool.description.empty())
      text.append(", \"description\": ").append(Quoted(tool.description));
    if (!tool.parameters.empty())
      text.append(", \"parameters\": ").append(Respelled(tool.parameters));
    text.append(&tool == &tools.back() ? "}\n" : "},\n");
  }
  return text + "]";
}

std::string ToolCallsText(const std::vector<ToolCall>& calls) {
  if (calls.size() == 1) return CallText(calls[0]);
  std::string text = "[";
  for (const ToolCall& call : calls)
    text.append(text.size() == 1 ? "" : ", ").append(CallText(call));
  return text + "]";
}

std::string ToolOutputText(const std::string& name, const std::string& content) {
  const std::string named = name.empty() ? "" : Cat("\"name\": ", Quoted(name), ", ");
  return Cat("```tool_output\n{", named, "\"output\": ", Respelled(content), "}\n```");
}

const std::vector<std::string>& CallBeginnings() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> beginnings;
    for (const std::string_view fence : {"", "```json\n", "```tool_code\n", "```\n"}) {
      for (const std::string_view list : {"", "[", "[\n"}) {
        for (const std::string_view gap : {"", " ", "\n", "\n  ", "\n    "})
          beginnings.push_back(Cat(fence, list, "{", gap, "\"name\""));
      }
    }
    return beginnings;
  }();
  return all;
}

}  // namespace tandem
