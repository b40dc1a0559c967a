#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

// What a message may have beside what is read: nothing that the model would see.
constexpr std::array<std::string_view, 8> kMessageFields = {
    "role", "content", "name", "tool_calls", "tool_call_id", "refusal", "annotations", "audio"};
// Sent back by clients that keep what other servers say of an answer.
constexpr std::array<std::string_view, 5> kIgnoredMessageFields = {
    "reasoning_content", "reasoning", "provider_specific_fields", "cache_control", "id"};

absl::StatusOr<std::string> ReadTextPart(const Json& part, const std::string& path) {
  if (!part.is_object()) {
    return InvalidField(path, Cat("'", path, "': expected an object, found ", JsonTypeName(part)));
  }
  const JsonFields fields(part, Cat(path, "."));
  TANDEM_ASSIGN_OR_RETURN(const std::string type, fields.NeededString("type"));
  if (type != "text") {
    return InvalidField(Cat(path, ".type"),
                        Cat("'", path, ".type': expected text, found ", type,
                            ": this server reads text only, no images, audio or files"),
                        "unsupported_content_type");
  }
  return fields.NeededString("text");
}

absl::Status ReadContent(const JsonFields& fields, Message& message) {
  const Json* content = fields.Find("content");
  if (content == nullptr) {
    if (message.role == Role::kAssistant) return absl::OkStatus();
    return fields.WrongType("content", "a string or a list of text parts");
  }
  if (content->is_string()) {
    message.parts.push_back(content->get<std::string>());
    return absl::OkStatus();
  }
  const bool none_needed = message.role == Role::kAssistant || message.role == Role::kTool;
  if (!content->is_array() || (content->empty() && !none_needed)) {
    return fields.WrongType("content", "a string or a list of text parts");
  }
  for (std::size_t i = 0; i < content->size(); ++i) {
    const std::string path = Cat(fields.PathOf("content"), "[", i, "]");
    TANDEM_ASSIGN_OR_RETURN(std::string part, ReadTextPart((*content)[i], path));
    message.parts.push_back(std::move(part));
  }
  return absl::OkStatus();
}

absl::StatusOr<ToolCall> ReadToolCall(const Json& entry, const std::string& path) {
  if (!entry.is_object()) {
    return InvalidField(path, Cat("'", path, "': expected an object, found ", JsonTypeName(entry)));
  }
  const JsonFields fields(entry, Cat(path, "."));
  ToolCall call;
  if (fields.Find("id") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(call.id, fields.NeededString("id"));
  }
  const Json* function = fields.Find("function");
  if (function == nullptr || !function->is_object()) {
    return fields.WrongType("function", "an object");
  }
  const JsonFields inner(*function, Cat(path, ".function."));
  TANDEM_ASSIGN_OR_RETURN(call.name, inner.NeededString("name"));
  TANDEM_RETURN_IF_ERROR(CheckToolName(inner.PathOf("name"), call.name));
  TANDEM_ASSIGN_OR_RETURN(call.arguments, inner.NeededString("arguments"));
  return call;
}

absl::Status ReadToolCalls(const JsonFields& fields, Message& message) {
  const Json* calls = fields.Find("tool_calls");
  if (calls == nullptr || (calls->is_array() && calls->empty())) return absl::OkStatus();
  if (!calls->is_array()) return fields.WrongType("tool_calls", "an array of calls");
  if (message.role != Role::kAssistant) {
    return InvalidField(fields.PathOf("tool_calls"),
                        Cat("'", fields.PathOf("tool_calls"), "': only an assistant calls tools"));
  }
  for (std::size_t i = 0; i < calls->size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(
        ToolCall call, ReadToolCall((*calls)[i], Cat(fields.PathOf("tool_calls"), "[", i, "]")));
    message.tool_calls.push_back(std::move(call));
  }
  return absl::OkStatus();
}

absl::StatusOr<Role> ReadRole(const JsonFields& fields) {
  TANDEM_ASSIGN_OR_RETURN(const std::string name, fields.NeededString("role"));
  if (name == "system") return Role::kSystem;
  if (name == "developer") return Role::kDeveloper;
  if (name == "user") return Role::kUser;
  if (name == "assistant") return Role::kAssistant;
  if (name == "tool") return Role::kTool;
  return InvalidField(
      fields.PathOf("role"),
      Cat("'", fields.PathOf("role"),
          "': expected system, developer, user, assistant or tool, found '", name, "'"));
}

absl::Status CheckMessageFields(const Json& message, const JsonFields& fields) {
  for (const auto& member : message.items()) {
    const std::string& name = member.key();
    const Json& value = member.value();
    const auto is_name = [&name](std::string_view known) { return known == name; };
    if (std::any_of(kMessageFields.begin(), kMessageFields.end(), is_name)) continue;
    if (std::any_of(kIgnoredMessageFields.begin(), kIgnoredMessageFields.end(), is_name)) continue;
    if (value.is_null() || (value.is_array() && value.empty())) continue;
    return InvalidField(fields.PathOf(name), Cat("'", fields.PathOf(name), "' is not supported"),
                        "unsupported_parameter");
  }
  return absl::OkStatus();
}

absl::StatusOr<Message> ReadMessage(const Json& entry, const std::string& path) {
  if (!entry.is_object()) {
    return InvalidField(path, Cat("'", path, "': expected an object, found ", JsonTypeName(entry)));
  }
  const JsonFields fields(entry, Cat(path, "."));
  Message message;
  TANDEM_ASSIGN_OR_RETURN(message.role, ReadRole(fields));
  TANDEM_RETURN_IF_ERROR(CheckMessageFields(entry, fields));
  TANDEM_RETURN_IF_ERROR(ReadContent(fields, message));
  TANDEM_RETURN_IF_ERROR(ReadToolCalls(fields, message));
  if (message.role == Role::kTool) {
    TANDEM_ASSIGN_OR_RETURN(message.tool_call_id, fields.NeededString("tool_call_id"));
    if (fields.Find("name") != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(message.tool_name, fields.NeededString("name"));
    }
  }
  return message;
}

}  // namespace

absl::StatusOr<ChatPrompt> ReadChatMessages(const JsonFields& fields) {
  const Json* list = fields.Find("messages");
  if (list == nullptr || !list->is_array()) {
    return fields.WrongType("messages", "an array of messages");
  }
  if (list->empty()) {
    return InvalidField("messages", "'messages': expected at least one message, found none");
  }
  ChatPrompt chat;
  for (std::size_t i = 0; i < list->size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Message message, ReadMessage((*list)[i], Cat("messages[", i, "]")));
    chat.messages.push_back(std::move(message));
  }
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("continue_final_message", chat.continue_final_message));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> generation,
                          fields.Bool("add_generation_prompt"));
  chat.add_generation_prompt = generation.value_or(!chat.continue_final_message);
  if (chat.add_generation_prompt && chat.continue_final_message) {
    return InvalidField("continue_final_message",
                        "'continue_final_message' and 'add_generation_prompt' exclude each other");
  }
  return chat;
}

}  // namespace tandem
