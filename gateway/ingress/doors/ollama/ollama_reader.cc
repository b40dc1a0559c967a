#include "gateway/ingress/doors/ollama/ollama_reader.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "gateway/ingress/answer/embeddings.h"
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

constexpr std::array<std::string_view, 8> kChatFields = {
    "model", "messages", "tools", "format", "options", "stream", "logprobs", "top_logprobs"};
constexpr std::array<std::string_view, 9> kGenerateFields = {
    "model", "prompt", "system", "raw", "format", "options", "stream", "logprobs", "top_logprobs"};
constexpr std::array<std::string_view, 8> kOptions = {
    "num_predict", "temperature", "top_k", "top_p", "min_p", "seed", "stop", "frequency_penalty"};

constexpr auto kRules = std::to_array<FieldRule>({
    {"template", "\"\""},
    {"context", "[]"},
    {"images", "[]"},
    {"width", ""},
    {"height", ""},
    {"steps", ""},
    {"truncate", "*"},
    {"shift", "*"},
    {"name", "*"},
});

// Of "options": what places a model, and samplers that are off.
constexpr auto kOptionRules = std::to_array<FieldRule>({
    {"num_keep", "*"},
    {"num_gqa", "*"},
    {"main_gpu", "*"},
    {"low_vram", "*"},
    {"f16_kv", "*"},
    {"vocab_only", "false"},
    {"embedding_only", "false"},
    {"use_mmap", "*"},
    {"use_mlock", "*"},
    {"numa", "*"},
    {"logits_all", "*"},
    {"tfs_z", "1"},
    {"penalize_newline", "*"},
});

absl::Status ReadName(const JsonFields& fields, std::string& model) {
  const std::string_view member = fields.Find("model") == nullptr ? "name" : "model";
  if (fields.Find(member) == nullptr) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(model, fields.NeededString(member));
  constexpr std::string_view kTag = ":latest";
  if (model.ends_with(kTag)) model.resize(model.size() - kTag.size());
  return absl::OkStatus();
}

// A number, or -1 (to the end) and -2 (as much as fits), which are the same here.
absl::Status ReadPredict(const JsonFields& fields, std::optional<std::int32_t>& max_tokens) {
  std::optional<std::int64_t> given;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("num_predict", given));
  if (!given.has_value() || *given == -1 || *given == -2) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(max_tokens, CheckedMaxTokens(fields.PathOf("num_predict"), *given, 0));
  return absl::OkStatus();
}

absl::Status ReadModelOptions(const JsonFields& request_fields, const ReadOptions& options,
                              InferenceRequest& request) {
  const Json* value = request_fields.Find("options");
  const Json nothing = Json::object();
  if (value != nullptr && !value->is_object()) {
    return request_fields.WrongType("options", "an object");
  }
  const Json& object = value == nullptr ? nothing : *value;
  const JsonFields fields(object, "options.");
  TANDEM_RETURN_IF_ERROR(ReadSampling(fields, request));
  TANDEM_RETURN_IF_ERROR(ReadStops(fields, "stop", request.stops));
  TANDEM_RETURN_IF_ERROR(ReadPredict(fields, request.max_tokens));
  std::vector<std::string_view> known(kOptions.begin(), kOptions.end());
  known.push_back("presence_penalty");
  return CheckOtherFields(object, known, kOptionRules, options, request.ignored_fields);
}

// "json", a JSON Schema, or "" for none.
absl::Status ReadFormat(const JsonFields& fields, ResponseFormat& format) {
  const Json* value = fields.Find("format");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_object()) {
    format.kind = ResponseFormat::Kind::kJsonSchema;
    format.definition = fields.TextOf("format");
    format.strict = true;
    format.field = "format";
    return absl::OkStatus();
  }
  if (!value->is_string() || (*value != "" && *value != "json")) {
    return InvalidField("format", "'format': expected \"json\" or a JSON Schema");
  }
  if (*value == "json") format.kind = ResponseFormat::Kind::kJsonObject;
  return absl::OkStatus();
}

// What both endpoints share.
absl::Status ReadCommon(const JsonFields& fields, const ReadOptions& options,
                        InferenceRequest& request) {
  TANDEM_RETURN_IF_ERROR(ReadName(fields, request.model));
  TANDEM_RETURN_IF_ERROR(ReadModelOptions(fields, options, request));
  TANDEM_RETURN_IF_ERROR(ReadFormat(fields, request.response_format));
  TANDEM_RETURN_IF_ERROR(ReadChatLogprobs(fields, request.sampling));
  request.stream = true;
  return fields.ReadBool("stream", request.stream);
}

absl::Status ReadToolCalls(const JsonFields& fields, Message& message) {
  const Json* calls = fields.Find("tool_calls");
  if (calls == nullptr) return absl::OkStatus();
  if (!calls->is_array()) return fields.WrongType("tool_calls", "an array of calls");
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("tool_calls"));
  for (std::size_t i = 0; i < calls->size(); ++i) {
    const std::string path = Cat(fields.PathOf("tool_calls"), "[", i, "]");
    const Json& entry = (*calls)[i];
    if (!entry.is_object() || !entry.contains("function") || !entry["function"].is_object()) {
      return InvalidField(path, Cat("'", path, "': expected an object with a function"));
    }
    const JsonFields call(entry, Cat(path, "."), i < sources.size() ? sources[i] : "");
    const JsonFields function(entry["function"], Cat(path, ".function."),
                              call.SourceOf("function"));
    ToolCall read;
    TANDEM_ASSIGN_OR_RETURN(read.name, function.NeededString("name"));
    TANDEM_RETURN_IF_ERROR(CheckToolName(function.PathOf("name"), read.name));
    const Json* arguments = function.Find("arguments");
    if (arguments == nullptr || !arguments->is_object()) {
      return function.WrongType("arguments", "an object");
    }
    read.arguments = function.TextOf("arguments");
    message.tool_calls.push_back(std::move(read));
  }
  return absl::OkStatus();
}

absl::StatusOr<Role> ReadRole(const JsonFields& fields) {
  TANDEM_ASSIGN_OR_RETURN(const std::string role, fields.NeededString("role"));
  if (role == "system") return Role::kSystem;
  if (role == "user") return Role::kUser;
  if (role == "assistant") return Role::kAssistant;
  if (role == "tool") return Role::kTool;
  return InvalidField(fields.PathOf("role"),
                      Cat("'", fields.PathOf("role"),
                          "': expected system, user, assistant or tool, found '", role, "'"));
}

absl::Status RefuseImages(const JsonFields& fields) {
  const Json* images = fields.Find("images");
  if (images == nullptr || (images->is_array() && images->empty())) return absl::OkStatus();
  return InvalidField(fields.PathOf("images"),
                      Cat("'", fields.PathOf("images"), "': this server reads text only"),
                      "unsupported_content_type");
}

absl::StatusOr<Message> ReadMessage(const JsonFields& fields) {
  Message message;
  TANDEM_ASSIGN_OR_RETURN(message.role, ReadRole(fields));
  TANDEM_RETURN_IF_ERROR(RefuseImages(fields));
  if (fields.Find("content") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(std::string content, fields.NeededString("content"));
    message.parts.push_back(std::move(content));
  }
  TANDEM_RETURN_IF_ERROR(ReadToolCalls(fields, message));
  for (const std::string_view name : {"tool_name", "name"}) {
    if (message.role != Role::kTool || fields.Find(name) == nullptr) continue;
    TANDEM_ASSIGN_OR_RETURN(message.tool_name, fields.NeededString(name));
  }
  return message;
}

}  // namespace

absl::StatusOr<InferenceRequest> ReadOllamaChat(std::string_view body, const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  InferenceRequest request;
  TANDEM_RETURN_IF_ERROR(ReadCommon(fields, options, request));
  TANDEM_RETURN_IF_ERROR(ReadTools(fields, request.tools));
  const Json* list = fields.Find("messages");
  if (list != nullptr && !list->is_array()) return fields.WrongType("messages", "an array");
  ChatPrompt chat;
  const std::vector<std::string_view> sources = ElementTexts(fields.SourceOf("messages"));
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const std::string path = Cat("messages[", i, "]");
    const Json& entry = (*list)[i];
    if (!entry.is_object()) return InvalidField(path, Cat("'", path, "': expected an object"));
    TANDEM_ASSIGN_OR_RETURN(
        Message message,
        ReadMessage(JsonFields(entry, Cat(path, "."), i < sources.size() ? sources[i] : "")));
    chat.messages.push_back(std::move(message));
  }
  if (!chat.messages.empty()) {
    const Message& last = chat.messages.back();
    chat.continue_final_message = last.role == Role::kAssistant && last.tool_calls.empty();
    chat.add_generation_prompt = !chat.continue_final_message;
    request.prompts.emplace_back(std::move(chat));
  }
  TANDEM_RETURN_IF_ERROR(CheckTools(request));
  TANDEM_RETURN_IF_ERROR(
      CheckOtherFields(json, kChatFields, kRules, options, request.ignored_fields));
  return request;
}

absl::StatusOr<InferenceRequest> ReadOllamaGenerate(std::string_view body,
                                                    const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  InferenceRequest request;
  request.prompt_field = "prompt";
  TANDEM_RETURN_IF_ERROR(ReadCommon(fields, options, request));
  bool raw = false;
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("raw", raw));
  std::string prompt;
  std::string system;
  if (fields.Find("prompt") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(prompt, fields.NeededString("prompt"));
  }
  if (fields.Find("system") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(system, fields.NeededString("system"));
  }
  if (raw && !system.empty()) {
    return InvalidField("system", "'system': a raw prompt takes none");
  }
  if (raw && !prompt.empty()) {
    request.prompts.emplace_back(std::move(prompt));
  } else if (!prompt.empty()) {
    ChatPrompt chat;
    if (!system.empty()) {
      chat.messages.push_back({.role = Role::kSystem, .parts = {std::move(system)}});
    }
    chat.messages.push_back({.role = Role::kUser, .parts = {std::move(prompt)}});
    request.prompts.emplace_back(std::move(chat));
  }
  TANDEM_RETURN_IF_ERROR(
      CheckOtherFields(json, kGenerateFields, kRules, options, request.ignored_fields));
  return request;
}

absl::StatusOr<InferenceRequest> ReadOllamaEmbed(std::string_view body, bool older,
                                                 const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "");
  const std::string_view member = older ? "prompt" : "input";
  InferenceRequest request;
  request.prompt_field = std::string(member);
  request.embed.emplace().unit_length = !older;
  TANDEM_RETURN_IF_ERROR(ReadName(fields, request.model));
  TANDEM_RETURN_IF_ERROR(ReadModelOptions(fields, options, request));
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("dimensions", request.embed->dimensions));
  const Json* input = fields.Find(member);
  const Json texts = input == nullptr || *input == "" ? Json::array()
                     : input->is_string()             ? Json::array({*input})
                                                      : *input;
  if (!texts.is_array() || (older && input != nullptr && !input->is_string())) {
    return fields.WrongType(member, older ? "a string" : "a string or an array of strings");
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (!texts[i].is_string()) {
      return InvalidField(member, Cat("'", member, "[", i, "]': expected a string, found ",
                                      JsonTypeName(texts[i])));
    }
    request.prompts.emplace_back(texts[i].get<std::string>());
  }
  TANDEM_RETURN_IF_ERROR(CheckEmbeddingPrompts(member, request.prompts));
  const auto known = std::to_array<std::string_view>({"model", "options", "dimensions", member});
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, known, kRules, options, request.ignored_fields));
  return request;
}

absl::StatusOr<std::string> ReadOllamaModel(std::string_view body, const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  std::string model;
  TANDEM_RETURN_IF_ERROR(ReadName(JsonFields(json, ""), model));
  return model;
}

}  // namespace tandem
