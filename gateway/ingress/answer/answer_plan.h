#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/answer/running_answer.h"
#include "gateway/ingress/answer/serving.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// One answer for each prompt of the request, whose large parts it takes. Checks it against the
// model and its context, and draws a seed where it has none. Errors are InvalidArgument with the
// field's name; another model than the served one is NotFound (request/error.h). A prompt that does
// not fit the context has code context_length_exceeded and is not encoded to its end.
absl::StatusOr<std::vector<AnswerSpec>> PlanAnswers(const Serving& serving,
                                                    InferenceRequest& request);

// The ids of the request's prompts alone, with the same checks.
absl::StatusOr<std::vector<std::vector<std::int32_t>>> PlanPrompts(const Serving& serving,
                                                                   InferenceRequest& request);

// The ids of one prompt: a chat's turns as the model's template has them, told of tools
// (request/tool_text.h) where there are some; a text with bos in front where the model wants it;
// ids as they are. Errors as above.
absl::StatusOr<std::vector<std::int32_t>> PromptIds(const Serving& serving,
                                                    std::string_view prompt_field, Prompt prompt,
                                                    std::string_view tools = "");

// Bounds what one answer that is written whole may take. About what a token costs with its
// log-probabilities, spelled as JSON; in memory it is three times that while it is written.
inline constexpr std::int64_t kMaxAnswerBytes = std::int64_t{16} << 20;
inline constexpr std::int64_t ScoredTokenBytes(std::int32_t num_logprobs) {
  return num_logprobs < 0 ? 4 : 64 + 72 * (std::int64_t{num_logprobs} + 1);
}
// InvalidArgument when the scores of `prompt_tokens` echoed tokens (over all choices) go over the
// bound: they come at once, in a stream too.
absl::Status CheckEchoBytes(std::int64_t prompt_tokens, std::int32_t num_logprobs);
absl::Status AnswerTooLong();

// A seed for requests that bring none.
std::uint64_t RandomSeed();
// `prefix` and 24 random letters and digits.
std::string RandomId(std::string_view prefix);
// What a client calls its request, where that is a plain word that can do no harm in a header or a
// log; else a random one.
std::string RequestId(std::string_view given);

}  // namespace tandem
