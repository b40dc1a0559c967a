#include "gateway/ingress/doors/responses/responses_reader.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/field_rules.h"
#include "gateway/ingress/request/json_fields.h"
#include "gateway/ingress/request/json_text.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr auto kFields = std::to_array<std::string_view>({"model",
                                                          "input",
                                                          "instructions",
                                                          "previous_response_id",
                                                          "store",
                                                          "metadata",
                                                          "tools",
                                                          "tool_choice",
                                                          "text",
                                                          "truncation",
                                                          "parallel_tool_calls",
                                                          "max_output_tokens",
                                                          "temperature",
                                                          "top_p",
                                                          "top_k",
                                                          "min_p",
                                                          "seed",
                                                          "logit_bias",
                                                          "frequency_penalty",
                                                          "presence_penalty",
                                                          "stop",
                                                          "stream",
                                                          "stream_options",
                                                          "include",
                                                          "top_logprobs"});

constexpr auto kRules = std::to_array<FieldRule>({
    {"background", "false"},
    {"conversation", ""},
    {"prompt", ""},
    {"background_options", ""},
    {"image", ""},
    {"access_programs", "*"},
    {"reasoning", "*"},
    {"max_tool_calls", "*"},
    {"context_management", "*"},
});

absl::Status Expected(const std::string& path, std::string_view what, std::string_view found) {
  return InvalidField(path, Cat("'", path, "': expected ", what, ", found '", found, "'"));
}

// A string, or a list of text parts.
absl::Status ReadTexts(const JsonFields& fields, std::string_view name,
                       std::vector<std::string>& texts) {
  const Json* value = fields.Find(name);
  if (value == nullptr) return fields.WrongType(name, "a string or a list of text parts");
  if (value->is_string()) {
    texts.push_back(value->get<std::string>());
    return absl::OkStatus();
  }
  if (!value->is_array()) return fields.WrongType(name, "a string or a list of text parts");
  for (std::size_t i = 0; i < value->size(); ++i) {
    const std::string path = Cat(fields.PathOf(name), "[", i, "]");
    const Json& part = (*value)[i];
    if (!part.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    const JsonFields inner(part, Cat(path, "."));
    TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
    const std::string_view member = type == "refusal" ? "refusal" : "text";
    if (type != "input_text" && type != "output_text" && type != "text" && type != "refusal") {
      return InvalidField(Cat(path, ".type"),
                          Cat("'", path, ".type': expected input_text or output_text, found ", type,
                              ": this server reads text only, no images, audio or files"),
                          "unsupported_content_type");
    }
    TANDEM_ASSIGN_OR_RETURN(std::string text, inner.NeededString(member));
    texts.push_back(std::move(text));
  }
  return absl::OkStatus();
}

absl::StatusOr<Message> ReadMessageItem(const JsonFields& fields) {
  Message message;
  TANDEM_ASSIGN_OR_RETURN(const std::string role, fields.NeededString("role"));
  if (role == "system") {
    message.role = Role::kSystem;
  } else if (role == "developer") {
    message.role = Role::kDeveloper;
  } else if (role == "assistant") {
    message.role = Role::kAssistant;
  } else if (role != "user") {
    return Expected(fields.PathOf("role"), "system, developer, user or assistant", role);
  }
  TANDEM_RETURN_IF_ERROR(ReadTexts(fields, "content", message.parts));
  return message;
}

// One item of the input. Calls that follow one another are one message, as the model made them.
absl::Status ReadItem(const JsonFields& fields, std::vector<Message>& input) {
  std::string type = "message";
  if (fields.Find("type") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(type, fields.NeededString("type"));
  }
  if (type == "message") {
    TANDEM_ASSIGN_OR_RETURN(Message message, ReadMessageItem(fields));
    input.push_back(std::move(message));
  } else if (type == "function_call") {
    ToolCall call;
    TANDEM_ASSIGN_OR_RETURN(call.id, fields.NeededString("call_id"));
    TANDEM_ASSIGN_OR_RETURN(call.name, fields.NeededString("name"));
    TANDEM_RETURN_IF_ERROR(CheckToolName(fields.PathOf("name"), call.name));
    TANDEM_ASSIGN_OR_RETURN(call.arguments, fields.NeededString("arguments"));
    if (input.empty() || input.back().role != Role::kAssistant) {
      input.push_back({.role = Role::kAssistant});
    }
    input.back().tool_calls.push_back(std::move(call));
  } else if (type == "function_call_output") {
    Message result;
    result.role = Role::kTool;
    TANDEM_ASSIGN_OR_RETURN(result.tool_call_id, fields.NeededString("call_id"));
    TANDEM_RETURN_IF_ERROR(ReadTexts(fields, "output", result.parts));
    input.push_back(std::move(result));
  } else if (type != "reasoning") {
    // What another model thought is no part of the conversation; everything else is refused.
    return InvalidField(
        fields.PathOf("type"),
        Cat("'", fields.PathOf("type"),
            "': expected message, function_call or function_call_output, found '", type, "'"),
        "unsupported_parameter");
  }
  return absl::OkStatus();
}

absl::Status ReadInput(const JsonFields& fields, ResponsesRequest& request) {
  const Json* value = fields.Find("input");
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  if (value != nullptr && value->is_string()) {
    const std::string said = value->get<std::string>();
    request.input.push_back({.role = Role::kUser, .parts = {said}});
    nlohmann::ordered_json text = {{"type", "input_text"}, {"text", said}};
    items.push_back({{"type", "message"},
                     {"role", "user"},
                     {"status", "completed"},
                     {"content", nlohmann::ordered_json::array({std::move(text)})}});
  } else if (value == nullptr || !value->is_array() || value->empty()) {
    return fields.WrongType("input", "a string or a list of items");
  } else {
    for (std::size_t i = 0; i < value->size(); ++i) {
      const std::string path = Cat("input[", i, "]");
      const Json& item = (*value)[i];
      if (!item.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
      const JsonFields inner(item, Cat(path, "."));
      TANDEM_RETURN_IF_ERROR(ReadItem(inner, request.input));
      items.push_back(nlohmann::ordered_json(item));
      if (inner.Find("type") == nullptr) items.back()["type"] = "message";
    }
  }
  for (auto& item : items) {
    if (!item.contains("id") || !item["id"].is_string()) item["id"] = RandomId("item_");
  }
  request.input_items = DumpJson({{"object", "list"},
                                  {"data", items},
                                  {"first_id", items.front()["id"]},
                                  {"last_id", items.back()["id"]},
                                  {"has_more", false}});
  return absl::OkStatus();
}

// {"type": "function", "name", "parameters", ...}: flat, unlike in a chat.
absl::Status ReadFlatTools(const JsonFields& fields, ResponsesRequest& request) {
  const Json* list = fields.Find("tools");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array() || list->size() > kMaxTools) {
    return fields.WrongType("tools", Cat("an array of at most ", kMaxTools, " tools"));
  }
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("tools"));
  nlohmann::ordered_json shown = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = Cat("tools[", i, "]");
    const Json& entry = (*list)[i];
    if (!entry.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    const JsonFields inner(entry, Cat(path, "."), i < sources.size() ? sources[i] : "");
    TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
    if (type != "function") {
      return InvalidField(Cat(path, ".type"),
                          Cat("'", path, ".type': expected function, found '", type, "'"),
                          "unsupported_parameter");
    }
    TANDEM_ASSIGN_OR_RETURN(Tool tool, ReadFunction(entry, path, inner.source(), "parameters"));
    const Json parameters = entry.value("parameters", Json());
    shown.push_back({{"type", "function"},
                     {"name", tool.name},
                     {"description", tool.description},
                     {"parameters", nlohmann::ordered_json(parameters)},
                     {"strict", tool.strict}});
    request.request.tools.push_back(std::move(tool));
  }
  request.tools = DumpJson(shown);
  return absl::OkStatus();
}

absl::Status ReadFlatToolChoice(const JsonFields& fields, ResponsesRequest& request) {
  const Json* value = fields.Find("tool_choice");
  if (value == nullptr) return absl::OkStatus();
  request.tool_choice = value->dump();
  ToolChoice& choice = request.request.tool_choice;
  if (value->is_string()) return ReadToolMode(fields, value->get<std::string>(), choice);
  if (!value->is_object()) return fields.WrongType("tool_choice", "a string or an object");
  const JsonFields inner(*value, "tool_choice.");
  TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
  if (type != "function") return Expected("tool_choice.type", "function", type);
  choice.mode = ToolChoice::Mode::kNamed;
  TANDEM_ASSIGN_OR_RETURN(choice.name, inner.NeededString("name"));
  return absl::OkStatus();
}

// "text": {"format": {...}, "verbosity": ...}
absl::Status ReadTextFormat(const JsonFields& fields, ResponsesRequest& request) {
  const Json* text = fields.Find("text");
  if (text == nullptr) return absl::OkStatus();
  if (!text->is_object()) return fields.WrongType("text", "an object");
  const JsonFields inner(*text, "text.", fields.SourceOf("text"));
  const Json* value = inner.Find("format");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_object()) return inner.WrongType("format", "an object");
  const JsonFields format(*value, "text.format.", inner.SourceOf("format"));
  TANDEM_ASSIGN_OR_RETURN(const std::string type, format.NeededString("type"));
  ResponseFormat& wanted = request.request.response_format;
  if (type == "json_object") {
    wanted.kind = ResponseFormat::Kind::kJsonObject;
  } else if (type == "json_schema") {
    TANDEM_RETURN_IF_ERROR(ReadSchemaFormat(format, wanted));
  } else if (type != "text") {
    return Expected("text.format.type", "text, json_object or json_schema", type);
  }
  request.text = Cat("{\"format\":", value->dump(), "}");
  return absl::OkStatus();
}

// Log-probabilities are asked for in "include"; what else stands there has nothing to show.
absl::Status ReadLogprobs(const JsonFields& fields, InferenceRequest& request) {
  const Json* include = fields.Find("include");
  if (include != nullptr && !include->is_array()) return fields.WrongType("include", "an array");
  std::optional<std::int64_t> top;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("top_logprobs", top));
  TANDEM_ASSIGN_OR_RETURN(const std::int32_t count,
                          CheckedLogprobs("top_logprobs", top.value_or(0)));
  bool wanted = false;
  for (const Json& entry : include == nullptr ? Json::array() : *include) {
    wanted = wanted || entry == "message.output_text.logprobs";
  }
  if (wanted) request.sampling.num_logprobs = count;
  return absl::OkStatus();
}

absl::Status ReadEchoed(const JsonFields& fields, ResponsesRequest& request) {
  if (fields.Find("instructions") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.instructions, fields.NeededString("instructions"));
  }
  if (fields.Find("previous_response_id") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.previous_response_id,
                            fields.NeededString("previous_response_id"));
  }
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("store", request.store));
  if (const Json* metadata = fields.Find("metadata"); metadata != nullptr) {
    if (!metadata->is_object()) return fields.WrongType("metadata", "an object");
    request.metadata = metadata->dump();
  }
  // Nothing is ever left out of a conversation: one that is too long is an error either way.
  if (fields.Find("truncation") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.truncation, fields.NeededString("truncation"));
    if (request.truncation != "auto" && request.truncation != "disabled") {
      return Expected("truncation", "auto or disabled", request.truncation);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ResponsesRequest> ReadResponsesRequest(std::string_view body,
                                                      const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  ResponsesRequest result;
  InferenceRequest& request = result.request;
  request.prompt_field = "input";
  if (fields.Find("model") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.model, fields.NeededString("model"));
  }
  TANDEM_RETURN_IF_ERROR(ReadInput(fields, result));
  TANDEM_RETURN_IF_ERROR(ReadEchoed(fields, result));
  TANDEM_RETURN_IF_ERROR(ReadSampling(fields, request));
  TANDEM_RETURN_IF_ERROR(ReadStops(fields, "stop", request.stops));
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_output_tokens", 1, request.max_tokens));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("stream", request.stream));
  TANDEM_RETURN_IF_ERROR(ReadFlatTools(fields, result));
  TANDEM_RETURN_IF_ERROR(ReadFlatToolChoice(fields, result));
  TANDEM_RETURN_IF_ERROR(CheckTools(request));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("parallel_tool_calls", request.parallel_tool_calls));
  TANDEM_RETURN_IF_ERROR(ReadTextFormat(fields, result));
  TANDEM_RETURN_IF_ERROR(ReadLogprobs(fields, request));
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kFields, kRules, options, request.ignored_fields));
  return result;
}

ChatPrompt PromptOf(const ResponsesRequest& request, const std::vector<Message>& before) {
  ChatPrompt chat;
  if (!request.instructions.empty()) {
    chat.messages.push_back({.role = Role::kSystem, .parts = {request.instructions}});
  }
  chat.messages.insert(chat.messages.end(), before.begin(), before.end());
  chat.messages.insert(chat.messages.end(), request.input.begin(), request.input.end());
  return chat;
}

}  // namespace tandem
