#include "gateway/ingress/doors/anthropic/anthropic_reader.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/field_rules.h"
#include "gateway/ingress/request/json_fields.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 13> kFields = {
    "model", "messages",      "system",       "max_tokens",     "temperature",
    "top_p", "top_k",         "stream",       "stop_sequences", "tool_choice",
    "tools", "output_config", "output_format"};

constexpr auto kRules = std::to_array<FieldRule>({
    {"thinking", R"({"type":"disabled"})"},
    {"container", ""},
    {"context_management", "*"},
    {"mcp_servers", "[]"},
    {"betas", "*"},
    {"diagnostics", "*"},
    {"user_profile_id", "*"},
    {"cache_control", "*"},
    {"inference_geo", "*"},
    {"speed", "*"},
    {"anthropic_version", "*"},
});

absl::Status UnsupportedBlock(const std::string& path, const std::string& type) {
  return InvalidField(Cat(path, ".type"),
                      Cat("'", path, ".type': expected text, tool_use or tool_result, found ", type,
                          ": this server reads text only, no images or documents"),
                      "unsupported_content_type");
}

// A string, or a list of text blocks.
absl::Status ReadTexts(const JsonFields& fields, std::string_view name,
                       std::vector<std::string>& texts) {
  const Json* value = fields.Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (value->is_string()) {
    texts.push_back(value->get<std::string>());
    return absl::OkStatus();
  }
  if (!value->is_array()) return fields.WrongType(name, "a string or a list of text blocks");
  for (std::size_t i = 0; i < value->size(); ++i) {
    const std::string path = Cat(fields.PathOf(name), "[", i, "]");
    const Json& block = (*value)[i];
    if (!block.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    const JsonFields inner(block, Cat(path, "."));
    TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
    if (type != "text") return UnsupportedBlock(path, type);
    TANDEM_ASSIGN_OR_RETURN(std::string text, inner.NeededString("text"));
    texts.push_back(std::move(text));
  }
  return absl::OkStatus();
}

absl::StatusOr<Message> ReadToolResult(const JsonFields& fields) {
  Message result;
  result.role = Role::kTool;
  TANDEM_ASSIGN_OR_RETURN(result.tool_call_id, fields.NeededString("tool_use_id"));
  TANDEM_RETURN_IF_ERROR(ReadTexts(fields, "content", result.parts));
  bool failed = false;
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("is_error", failed));
  if (failed) result.parts.insert(result.parts.begin(), "Error: ");
  return result;
}

absl::StatusOr<ToolCall> ReadToolUse(const JsonFields& fields) {
  ToolCall call;
  TANDEM_ASSIGN_OR_RETURN(call.id, fields.NeededString("id"));
  TANDEM_ASSIGN_OR_RETURN(call.name, fields.NeededString("name"));
  TANDEM_RETURN_IF_ERROR(CheckToolName(fields.PathOf("name"), call.name));
  const Json* input = fields.Find("input");
  if (input == nullptr || !input->is_object()) return fields.WrongType("input", "an object");
  call.arguments = fields.TextOf("input");
  return call;
}

// A block of one message: a tool's result is a message of its own, before the rest.
absl::Status ReadBlock(const JsonFields& fields, const std::string& path, Message& message,
                       std::vector<Message>& results) {
  TANDEM_ASSIGN_OR_RETURN(const std::string type, fields.NeededString("type"));
  const bool assistant = message.role == Role::kAssistant;
  if (type == "text") {
    TANDEM_ASSIGN_OR_RETURN(std::string text, fields.NeededString("text"));
    message.parts.push_back(std::move(text));
  } else if (type == "tool_use" && assistant) {
    TANDEM_ASSIGN_OR_RETURN(ToolCall call, ReadToolUse(fields));
    message.tool_calls.push_back(std::move(call));
  } else if (type == "tool_result" && !assistant) {
    TANDEM_ASSIGN_OR_RETURN(Message result, ReadToolResult(fields));
    results.push_back(std::move(result));
  } else if ((type == "thinking" || type == "redacted_thinking") && assistant) {
    // What another model thought is no part of the conversation.
    return absl::OkStatus();
  } else {
    return UnsupportedBlock(path, type);
  }
  return absl::OkStatus();
}

absl::Status ReadMessage(const JsonFields& fields, std::vector<Message>& messages) {
  TANDEM_ASSIGN_OR_RETURN(const std::string role, fields.NeededString("role"));
  Message message;
  if (role == "assistant") {
    message.role = Role::kAssistant;
  } else if (role == "system") {
    message.role = Role::kSystem;
  } else if (role != "user") {
    return InvalidField(
        fields.PathOf("role"),
        Cat("'", fields.PathOf("role"), "': expected user or assistant, found '", role, "'"));
  }
  const Json* content = fields.Find("content");
  if (content == nullptr || (!content->is_string() && !content->is_array())) {
    return fields.WrongType("content", "a string or a list of blocks");
  }
  if (content->is_string()) {
    message.parts.push_back(content->get<std::string>());
    messages.push_back(std::move(message));
    return absl::OkStatus();
  }
  std::vector<Message> results;
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("content"));
  for (std::size_t i = 0; i < content->size(); ++i) {
    const std::string path = Cat(fields.PathOf("content"), "[", i, "]");
    const Json& block = (*content)[i];
    if (!block.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    const JsonFields inner(block, Cat(path, "."), i < sources.size() ? sources[i] : "");
    TANDEM_RETURN_IF_ERROR(ReadBlock(inner, path, message, results));
  }
  const bool only_results = message.parts.empty() && !results.empty();
  for (Message& result : results) messages.push_back(std::move(result));
  if (!only_results) messages.push_back(std::move(message));
  return absl::OkStatus();
}

absl::StatusOr<ChatPrompt> ReadChat(const JsonFields& fields) {
  ChatPrompt chat;
  Message system;
  system.role = Role::kSystem;
  TANDEM_RETURN_IF_ERROR(ReadTexts(fields, "system", system.parts));
  if (!system.parts.empty()) chat.messages.push_back(std::move(system));
  const Json* list = fields.Find("messages");
  if (list == nullptr || !list->is_array()) {
    return fields.WrongType("messages", "an array of messages");
  }
  if (list->empty()) {
    return InvalidField("messages", "'messages': expected at least one message, found none");
  }
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("messages"));
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = Cat("messages[", i, "]");
    const Json& entry = (*list)[i];
    if (!entry.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    const JsonFields inner(entry, Cat(path, "."), i < sources.size() ? sources[i] : "");
    TANDEM_RETURN_IF_ERROR(ReadMessage(inner, chat.messages));
  }
  chat.continue_final_message =
      chat.messages.back().role == Role::kAssistant && chat.messages.back().tool_calls.empty();
  chat.add_generation_prompt = !chat.continue_final_message;
  return chat;
}

absl::Status ReadOwnTools(const JsonFields& fields, std::vector<Tool>& tools) {
  const Json* list = fields.Find("tools");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array() || list->size() > kMaxTools) {
    return fields.WrongType("tools", Cat("an array of at most ", kMaxTools, " tools"));
  }
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("tools"));
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = Cat("tools[", i, "]");
    const Json& entry = (*list)[i];
    if (!entry.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    const JsonFields inner(entry, Cat(path, "."), i < sources.size() ? sources[i] : "");
    if (inner.Find("type") != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
      if (type != "custom") {
        return InvalidField(Cat(path, ".type"),
                            Cat("'", path, ".type': expected custom, found '", type, "'"),
                            "unsupported_parameter");
      }
    }
    TANDEM_ASSIGN_OR_RETURN(Tool tool, ReadFunction(entry, path, inner.source(), "input_schema"));
    tools.push_back(std::move(tool));
  }
  return absl::OkStatus();
}

absl::Status ReadToolChoice(const JsonFields& fields, InferenceRequest& request) {
  const Json* value = fields.Find("tool_choice");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_object()) return fields.WrongType("tool_choice", "an object");
  const JsonFields inner(*value, "tool_choice.");
  TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
  ToolChoice& choice = request.tool_choice;
  if (type == "any") {
    choice.mode = ToolChoice::Mode::kRequired;
  } else if (type == "none") {
    choice.mode = ToolChoice::Mode::kNone;
  } else if (type == "tool") {
    choice.mode = ToolChoice::Mode::kNamed;
    TANDEM_ASSIGN_OR_RETURN(choice.name, inner.NeededString("name"));
  } else if (type != "auto") {
    return InvalidField(
        "tool_choice.type",
        Cat("'tool_choice.type': expected auto, any, tool or none, found '", type, "'"));
  }
  bool serial = false;
  TANDEM_RETURN_IF_ERROR(inner.ReadBool("disable_parallel_tool_use", serial));
  request.parallel_tool_calls = !serial;
  return absl::OkStatus();
}

// {"type": "json_schema", "schema": ...}
absl::Status ReadFormat(const JsonFields& fields, std::string_view name, ResponseFormat& format) {
  const Json* value = fields.Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_object()) return fields.WrongType(name, "an object");
  const JsonFields inner(*value, Cat(fields.PathOf(name), "."), fields.SourceOf(name));
  TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
  if (type != "json_schema") {
    return InvalidField(inner.PathOf("type"), Cat("'", inner.PathOf("type"),
                                                  "': expected json_schema, found '", type, "'"));
  }
  TANDEM_RETURN_IF_ERROR(ReadSchemaFormat(inner, format));
  format.strict = true;
  return absl::OkStatus();
}

absl::Status ReadOutput(const JsonFields& fields, ResponseFormat& format) {
  TANDEM_RETURN_IF_ERROR(ReadFormat(fields, "output_format", format));
  const Json* config = fields.Find("output_config");
  if (config == nullptr) return absl::OkStatus();
  if (!config->is_object()) return fields.WrongType("output_config", "an object");
  // Its "effort" is a hint.
  return ReadFormat(JsonFields(*config, "output_config.", fields.SourceOf("output_config")),
                    "format", format);
}

}  // namespace

absl::StatusOr<InferenceRequest> ReadMessagesRequest(std::string_view body,
                                                     const ReadOptions& options, bool count_only) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  InferenceRequest request;
  if (fields.Find("model") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.model, fields.NeededString("model"));
  }
  TANDEM_ASSIGN_OR_RETURN(ChatPrompt chat, ReadChat(fields));
  request.prompts.emplace_back(std::move(chat));
  request.call_id_prefix = "toolu_";
  TANDEM_RETURN_IF_ERROR(ReadOwnTools(fields, request.tools));
  TANDEM_RETURN_IF_ERROR(ReadToolChoice(fields, request));
  TANDEM_RETURN_IF_ERROR(ReadOutput(fields, request.response_format));
  TANDEM_RETURN_IF_ERROR(CheckTools(request));
  if (!count_only) {
    TANDEM_RETURN_IF_ERROR(ReadSampling(fields, request));
    TANDEM_RETURN_IF_ERROR(ReadStops(fields, "stop_sequences", request.stops));
    TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_tokens", 1, request.max_tokens));
    TANDEM_RETURN_IF_ERROR(fields.ReadBool("stream", request.stream));
  }
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kFields, kRules, options, request.ignored_fields));
  return request;
}

}  // namespace tandem
