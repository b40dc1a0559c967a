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
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest request, ReadOpenAiCommon(fields));
  request.prompt_field = "prompt";
  request.default_max_tokens = kDefaultMaxTokens;
  TANDEM_RETURN_IF_ERROR(ReadPrompts(fields, "prompt", request.prompts));
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
