#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/openai/error.h"
#include "gateway/ingress/openai/field_rules.h"
#include "gateway/ingress/openai/json_fields.h"
#include "gateway/ingress/openai/request.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 21> kKnown = {"model",
                                                     "messages",
                                                     "max_tokens",
                                                     "max_completion_tokens",
                                                     "temperature",
                                                     "top_p",
                                                     "top_k",
                                                     "min_p",
                                                     "seed",
                                                     "stop",
                                                     "n",
                                                     "logprobs",
                                                     "top_logprobs",
                                                     "logit_bias",
                                                     "frequency_penalty",
                                                     "presence_penalty",
                                                     "stream",
                                                     "stream_options",
                                                     "user",
                                                     "ignore_eos",
                                                     "return_tokens_as_token_ids"};

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

absl::StatusOr<std::string> ReadContent(const JsonFields& fields) {
  const Json* content = fields.Find("content");
  if (content != nullptr && content->is_string()) return content->get<std::string>();
  if (content == nullptr || !content->is_array() || content->empty()) {
    return fields.WrongType("content", "a string or a list of text parts");
  }
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < content->size(); ++i) {
    const std::string path = Cat(fields.PathOf("content"), "[", i, "]");
    TANDEM_ASSIGN_OR_RETURN(std::string part, ReadTextPart((*content)[i], path));
    parts.push_back(std::move(part));
  }
  return JoinContentParts(parts);
}

absl::StatusOr<ChatMessage> ReadMessage(const Json& message, const std::string& path) {
  if (!message.is_object()) {
    return InvalidField(path,
                        Cat("'", path, "': expected an object, found ", JsonTypeName(message)));
  }
  const JsonFields fields(message, Cat(path, "."));
  TANDEM_ASSIGN_OR_RETURN(std::string role, fields.NeededString("role"));
  if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
    return InvalidField(
        fields.PathOf("role"),
        Cat("'", fields.PathOf("role"), "': expected system, developer, user or assistant, found '",
            role, "'"));
  }
  for (const auto& [name, value] : message.items()) {
    const bool known = name == "role" || name == "content" || name == "name";
    const bool nothing = value.is_null() || (value.is_array() && value.empty());
    if (known || nothing) continue;
    return InvalidField(fields.PathOf(name), Cat("'", fields.PathOf(name), "' is not supported"),
                        "unsupported_parameter");
  }
  TANDEM_ASSIGN_OR_RETURN(std::string content, ReadContent(fields));
  return ChatMessage{.role = std::move(role), .content = std::move(content)};
}

absl::Status ReadMessages(const JsonFields& fields, std::vector<ChatMessage>& messages) {
  const Json* list = fields.Find("messages");
  if (list == nullptr || !list->is_array()) {
    return fields.WrongType("messages", "an array of messages");
  }
  if (list->empty()) {
    return InvalidField("messages", "'messages': expected at least one message, found none");
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(ChatMessage message, ReadMessage((*list)[i], Cat("messages[", i, "]")));
    messages.push_back(std::move(message));
  }
  return absl::OkStatus();
}

absl::Status ReadLogprobs(const JsonFields& fields, SamplingParams& sampling) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> wanted, fields.Bool("logprobs"));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::int64_t> top,
                          fields.Integer("top_logprobs", 0, kMaxLogprobs));
  if (top.value_or(0) > 0 && !wanted.value_or(false)) {
    return InvalidField("top_logprobs", "'top_logprobs' is allowed only with 'logprobs': true");
  }
  if (wanted.value_or(false)) {
    sampling.num_logprobs = static_cast<std::int32_t>(top.value_or(0));
  }
  return absl::OkStatus();
}

absl::Status ReadMaxTokens(const JsonFields& fields, std::optional<std::int32_t>& max_tokens) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::int64_t> older,
                          fields.Integer("max_tokens", 1, kMost));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::int64_t> newer,
                          fields.Integer("max_completion_tokens", 1, kMost));
  if (older.has_value() && newer.has_value() && *older != *newer) {
    return InvalidField("max_tokens",
                        "'max_tokens' and 'max_completion_tokens' mean the same: give one of them");
  }
  const std::optional<std::int64_t> given = newer.has_value() ? newer : older;
  if (given.has_value()) max_tokens = static_cast<std::int32_t>(*given);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatRequest> ParseChatRequest(std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  ChatRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.common, ParseCommonRequest(json));
  const JsonFields fields(json, "");
  TANDEM_RETURN_IF_ERROR(ReadMessages(fields, request.messages));
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, request.common.max_tokens));
  TANDEM_RETURN_IF_ERROR(ReadLogprobs(fields, request.common.sampling));
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kKnown));
  return request;
}

}  // namespace tandem
