#include "gateway/ingress/doors/openai/openai_reader.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/field_rules.h"
#include "gateway/ingress/request/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

// Of OpenAI's legacy API.
constexpr std::int32_t kDefaultMaxTokens = 16;
constexpr std::array<std::string_view, 2> kOwnFields = {"prompt", "echo"};

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

absl::StatusOr<InferenceRequest> ReadCompletionRequest(std::string_view body,
                                                       const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body));
  const JsonFields fields(json, "", body);
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest request, ReadOpenAiCommon(fields));
  request.prompt_field = "prompt";
  request.default_max_tokens = kDefaultMaxTokens;
  TANDEM_RETURN_IF_ERROR(ReadPrompts(fields, request.prompts));
  TANDEM_RETURN_IF_ERROR(ReadCompletionLogprobs(fields, request.sampling));
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_tokens", 0, request.max_tokens));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("echo", request.echo));
  TANDEM_RETURN_IF_ERROR(ReadGuided(fields, request.response_format));
  const std::size_t choices = request.prompts.size() * static_cast<std::size_t>(request.n);
  if (choices > static_cast<std::size_t>(kMaxChoices)) {
    return InvalidField("prompt", Cat("prompts times 'n': expected at most ", kMaxChoices,
                                      " choices, found ", choices));
  }
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, WithOpenAiCommonFields(kOwnFields), {}, options,
                                          request.ignored_fields));
  return request;
}

}  // namespace tandem
