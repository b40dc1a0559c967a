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

constexpr std::array<std::string_view, 20> kKnown = {"model",
                                                     "prompt",
                                                     "max_tokens",
                                                     "temperature",
                                                     "top_p",
                                                     "top_k",
                                                     "min_p",
                                                     "seed",
                                                     "stop",
                                                     "n",
                                                     "logprobs",
                                                     "echo",
                                                     "logit_bias",
                                                     "frequency_penalty",
                                                     "presence_penalty",
                                                     "stream",
                                                     "user",
                                                     "ignore_eos",
                                                     "stream_options",
                                                     "return_tokens_as_token_ids"};

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

// Legacy `logprobs` is a number, not a boolean.
absl::Status ReadLogprobs(const JsonFields& fields, CommonRequest& common) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::int64_t> logprobs,
                          fields.Integer("logprobs", 0, kMaxLogprobs));
  if (logprobs.has_value()) common.sampling.num_logprobs = static_cast<std::int32_t>(*logprobs);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompletionRequest> ParseCompletionRequest(std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  CompletionRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.common, ParseCommonRequest(json));
  const JsonFields fields(json, "");
  TANDEM_RETURN_IF_ERROR(ReadPrompts(fields, request.prompts));
  TANDEM_RETURN_IF_ERROR(ReadLogprobs(fields, request.common));
  TANDEM_ASSIGN_OR_RETURN(
      const std::optional<std::int64_t> max_tokens,
      fields.Integer("max_tokens", 0, std::numeric_limits<std::int32_t>::max()));
  if (max_tokens.has_value()) {
    request.common.max_tokens = static_cast<std::int32_t>(*max_tokens);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> echo, fields.Bool("echo"));
  request.echo = echo.value_or(false);
  const std::size_t choices = request.prompts.size() * static_cast<std::size_t>(request.common.n);
  if (choices > static_cast<std::size_t>(kMaxChoices)) {
    return InvalidField("prompt", Cat("prompts times 'n': expected at most ", kMaxChoices,
                                      " choices, found ", choices));
  }
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kKnown));
  return request;
}

}  // namespace tandem
