#include "gateway/ingress/openai/request.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "gateway/ingress/openai/error.h"
#include "gateway/ingress/openai/json_fields.h"
#include "gateway/ingress/openai/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

// What both endpoints read.
constexpr std::array<std::string_view, 17> kCommonFields = {"model",
                                                            "temperature",
                                                            "top_p",
                                                            "top_k",
                                                            "min_p",
                                                            "seed",
                                                            "stop",
                                                            "n",
                                                            "max_tokens",
                                                            "logprobs",
                                                            "logit_bias",
                                                            "frequency_penalty",
                                                            "presence_penalty",
                                                            "stream",
                                                            "stream_options",
                                                            "ignore_eos",
                                                            "return_tokens_as_token_ids"};
constexpr std::array<std::string_view, 3> kChatFields = {"messages", "max_completion_tokens",
                                                         "top_logprobs"};
constexpr std::array<std::string_view, 2> kCompletionFields = {"prompt", "echo"};

std::vector<std::string_view> KnownFields(std::span<const std::string_view> own) {
  std::vector<std::string_view> known(kCommonFields.begin(), kCommonFields.end());
  known.insert(known.end(), own.begin(), own.end());
  return known;
}

absl::Status ReadLogitBias(const JsonFields& fields, SamplingWishes& wishes) {
  const Json* bias = fields.Find("logit_bias");
  if (bias == nullptr) return absl::OkStatus();
  if (!bias->is_object()) return fields.WrongType("logit_bias", "an object of token id to number");
  for (const auto& [key, value] : bias->items()) {
    std::int64_t token = 0;
    if (!absl::SimpleAtoi(key, &token)) {
      return InvalidField("logit_bias",
                          Cat("'logit_bias': expected token ids as keys, found '", key, "'"));
    }
    if (!value.is_number()) {
      return InvalidField("logit_bias", Cat("'logit_bias': expected a number for token ", token,
                                            ", found ", JsonTypeName(value)));
    }
    wishes.logit_bias.emplace_back(token, value.get<double>());
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const JsonFields& fields, CommonRequest& request) {
  SamplingWishes wishes;
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("temperature", wishes.temperature));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("top_p", wishes.top_p));
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("top_k", wishes.top_k));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("min_p", wishes.min_p));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("frequency_penalty", wishes.frequency_penalty));
  TANDEM_RETURN_IF_ERROR(fields.ReadNumber("presence_penalty", wishes.presence_penalty));
  TANDEM_RETURN_IF_ERROR(ReadLogitBias(fields, wishes));
  TANDEM_ASSIGN_OR_RETURN(request.sampling, CheckedSampling(wishes));
  std::optional<std::int64_t> seed;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("seed", seed));
  request.has_seed = seed.has_value();
  if (seed.has_value()) request.sampling.seed = static_cast<std::uint64_t>(*seed);
  return absl::OkStatus();
}

absl::Status ReadStops(const JsonFields& fields, std::vector<std::string>& stops) {
  const Json* stop = fields.Find("stop");
  if (stop == nullptr) return absl::OkStatus();
  if (stop->is_string()) {
    stops.push_back(stop->get<std::string>());
  } else if (stop->is_array()) {
    for (const Json& entry : *stop) {
      if (!entry.is_string()) {
        return InvalidField("stop", Cat("'stop': expected strings, found ", JsonTypeName(entry)));
      }
      stops.push_back(entry.get<std::string>());
    }
  } else {
    return fields.WrongType("stop", "a string or an array of strings");
  }
  return CheckStops(stops);
}

absl::Status ReadStream(const JsonFields& fields, CommonRequest& request) {
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("stream", request.stream));
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!options->is_object()) return fields.WrongType("stream_options", "an object");
  if (!request.stream) {
    return InvalidField("stream_options", "'stream_options' is allowed only with 'stream': true");
  }
  for (const auto& [name, value] : options->items()) {
    // Obfuscation pads chunks against eavesdroppers; there is nothing to switch off here.
    if (name != "include_usage" && name != "include_obfuscation") {
      const std::string path = Cat("stream_options.", name);
      return InvalidField(path, Cat("unknown request field '", path, "'"), "unknown_parameter");
    }
  }
  return JsonFields(*options, "stream_options.").ReadBool("include_usage", request.include_usage);
}

// Log-probabilities and max_tokens are the endpoints' own.
absl::StatusOr<CommonRequest> ReadCommon(const JsonFields& fields) {
  CommonRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.model, fields.NeededString("model"));
  if (request.model.empty()) {
    return InvalidField("model", "'model': expected the model's name, found an empty string");
  }
  TANDEM_RETURN_IF_ERROR(ReadSampling(fields, request));
  std::optional<std::int64_t> n;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("n", n));
  if (n.value_or(1) < 1 || n.value_or(1) > kMaxChoices) {
    return InvalidField("n",
                        Cat("'n': expected an integer from 1 up to ", kMaxChoices, ", found ", *n));
  }
  request.n = static_cast<std::int32_t>(n.value_or(1));
  TANDEM_RETURN_IF_ERROR(ReadStops(fields, request.stops));
  TANDEM_RETURN_IF_ERROR(ReadStream(fields, request));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("ignore_eos", request.ignore_eos));
  TANDEM_RETURN_IF_ERROR(
      fields.ReadBool("return_tokens_as_token_ids", request.return_tokens_as_token_ids));
  return request;
}

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

absl::StatusOr<std::string> ReadContent(const JsonFields& fields, std::string_view role) {
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
  absl::StatusOr<std::string> joined = JoinContentParts(role, parts);
  if (joined.ok()) return joined;
  const std::string path = fields.PathOf("content");
  return InvalidField(path, Cat("'", path, "': ", joined.status().message()));
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
  TANDEM_ASSIGN_OR_RETURN(std::string content, ReadContent(fields, role));
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

absl::Status ReadChatLogprobs(const JsonFields& fields, SamplingParams& sampling) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> wanted, fields.Bool("logprobs"));
  std::optional<std::int64_t> top;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("top_logprobs", top));
  TANDEM_ASSIGN_OR_RETURN(const std::int32_t count,
                          CheckedLogprobs("top_logprobs", top.value_or(0)));
  if (count > 0 && !wanted.value_or(false)) {
    return InvalidField("top_logprobs", "'top_logprobs' is allowed only with 'logprobs': true");
  }
  if (wanted.value_or(false)) sampling.num_logprobs = count;
  return absl::OkStatus();
}

absl::Status ReadMaxTokens(const JsonFields& fields, std::string_view name, std::int64_t least,
                           std::optional<std::int32_t>& max_tokens) {
  std::optional<std::int64_t> given;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger(name, given));
  if (!given.has_value()) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(max_tokens, CheckedMaxTokens(name, *given, least));
  return absl::OkStatus();
}

absl::Status ReadChatMaxTokens(const JsonFields& fields, std::optional<std::int32_t>& max_tokens) {
  std::optional<std::int32_t> newer;
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_tokens", 1, max_tokens));
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_completion_tokens", 1, newer));
  if (max_tokens.has_value() && newer.has_value() && *max_tokens != *newer) {
    return InvalidField("max_tokens",
                        "'max_tokens' and 'max_completion_tokens' mean the same: give one of them");
  }
  if (newer.has_value()) max_tokens = newer;
  return absl::OkStatus();
}

bool IsTokenArray(const Json& value) {
  return value.is_array() && !value.empty() && value.front().is_number();
}

absl::StatusOr<std::vector<std::int32_t>> ReadTokens(const Json& array, const std::string& path) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(array.size());
  for (const Json& entry : array) {
    const std::optional<std::int64_t> token = IntegerOf(entry);
    if (!token.has_value() || *token < 0 || *token > std::numeric_limits<std::int32_t>::max()) {
      return InvalidField("prompt", Cat("'", path, "[", tokens.size(),
                                        "]': expected a token id, found ", entry.dump()));
    }
    tokens.push_back(static_cast<std::int32_t>(*token));
  }
  return tokens;
}

// A string, an array of strings, an array of token ids, or an array of arrays of token ids.
absl::Status ReadPrompts(const JsonFields& fields, std::vector<Prompt>& prompts) {
  constexpr std::string_view kExpected =
      "a string, an array of strings, an array of token ids or an array of those";
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.WrongType("prompt", kExpected);
  if (prompt->is_string()) {
    prompts.emplace_back(prompt->get<std::string>());
    return absl::OkStatus();
  }
  if (!prompt->is_array()) return fields.WrongType("prompt", kExpected);
  if (prompt->empty()) return InvalidField("prompt", "'prompt': expected a prompt, found none");
  if (IsTokenArray(*prompt)) {
    TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> tokens, ReadTokens(*prompt, "prompt"));
    prompts.emplace_back(std::move(tokens));
    return absl::OkStatus();
  }
  const bool texts = prompt->front().is_string();
  for (std::size_t i = 0; i < prompt->size(); ++i) {
    const Json& entry = (*prompt)[i];
    const std::string path = Cat("prompt[", i, "]");
    if (texts && entry.is_string()) {
      prompts.emplace_back(entry.get<std::string>());
    } else if (!texts && IsTokenArray(entry)) {
      TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> tokens, ReadTokens(entry, path));
      prompts.emplace_back(std::move(tokens));
    } else {
      return InvalidField(
          "prompt",
          Cat("'", path, "': expected ",
              texts ? "a string like the first entry" : "an array of token ids", ", found ",
              JsonTypeName(entry), entry.is_array() && entry.empty() ? " (empty)" : ""));
    }
  }
  return absl::OkStatus();
}

// Here `logprobs` is a number, not a boolean.
absl::Status ReadCompletionLogprobs(const JsonFields& fields, SamplingParams& sampling) {
  std::optional<std::int64_t> logprobs;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("logprobs", logprobs));
  if (!logprobs.has_value()) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(sampling.num_logprobs, CheckedLogprobs("logprobs", *logprobs));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatRequest> ParseChatRequest(std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  const JsonFields fields(json, "");
  ChatRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.common, ReadCommon(fields));
  TANDEM_RETURN_IF_ERROR(ReadMessages(fields, request.messages));
  TANDEM_RETURN_IF_ERROR(ReadChatMaxTokens(fields, request.common.max_tokens));
  TANDEM_RETURN_IF_ERROR(ReadChatLogprobs(fields, request.common.sampling));
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, KnownFields(kChatFields)));
  return request;
}

absl::StatusOr<CompletionRequest> ParseCompletionRequest(std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  const JsonFields fields(json, "");
  CompletionRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.common, ReadCommon(fields));
  TANDEM_RETURN_IF_ERROR(ReadPrompts(fields, request.prompts));
  TANDEM_RETURN_IF_ERROR(ReadCompletionLogprobs(fields, request.common.sampling));
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_tokens", 0, request.common.max_tokens));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("echo", request.echo));
  const std::size_t choices = request.prompts.size() * static_cast<std::size_t>(request.common.n);
  if (choices > static_cast<std::size_t>(kMaxChoices)) {
    return InvalidField("prompt", Cat("prompts times 'n': expected at most ", kMaxChoices,
                                      " choices, found ", choices));
  }
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, KnownFields(kCompletionFields)));
  return request;
}

}  // namespace tandem
