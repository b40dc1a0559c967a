#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gateway/ingress/running_answer.h"
#include "gateway/ingress/serving.h"
#include "lib/text/chat_template.h"

namespace tandem {

// What a caller of either API may ask of an answer.
struct AnswerOptions {
  SamplingParams sampling;
  std::optional<std::int32_t> max_tokens;
  std::optional<std::int32_t> default_max_tokens;  // absent: up to the context's end
  std::vector<std::string> stops;
  bool echo = false;  // with sampling.num_logprobs >= 0 the prompt's log-probabilities too
  bool ignore_eos = false;
};

// "" means whatever is served; another name than the served one is NotFound (openai/error.h).
absl::Status CheckModelName(const Serving& serving, std::string_view name);

// Prompts as token ids. Errors are InvalidArgument with the field's name. A prompt that does not
// fit the context has code context_length_exceeded and is not encoded to its end.
absl::StatusOr<std::vector<std::int32_t>> ChatPromptIds(const Serving& serving,
                                                        absl::Span<const ChatMessage> messages);
// bos comes first where the model wants it; special tokens in the text are special.
absl::StatusOr<std::vector<std::int32_t>> TextPromptIds(const Serving& serving,
                                                        std::string_view field,
                                                        std::string_view text);

// Checks the options against the model and its context. `prompt_field` ("messages") names the
// prompt in errors; a prompt that does not fit has code context_length_exceeded.
absl::StatusOr<AnswerSpec> PlanAnswer(const Serving& serving, std::string_view prompt_field,
                                      std::vector<std::int32_t> prompt,
                                      const AnswerOptions& options);

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

}  // namespace tandem
