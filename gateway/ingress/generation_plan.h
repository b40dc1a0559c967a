#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gateway/ingress/generation.h"
#include "gateway/ingress/serving.h"
#include "lib/text/chat_template.h"

namespace tandem {

// What a caller of either API may ask of an answer.
struct GenerationOptions {
  SamplingParams sampling;
  std::optional<std::int32_t> max_tokens;
  std::optional<std::int32_t> default_max_tokens;  // absent: up to the context's end
  std::vector<std::string> stops;
  bool echo = false;  // with sampling.num_logprobs >= 0 the prompt's log-probabilities too
  bool ignore_eos = false;
};

// "" means whatever is served; another name than the served one is NotFound (openai/error.h).
absl::Status CheckModelName(const Serving& serving, std::string_view name);

// Prompts as token ids. Errors are InvalidArgument with the field's name.
absl::StatusOr<std::vector<std::int32_t>> ChatPromptIds(const Serving& serving,
                                                        absl::Span<const ChatMessage> messages);
// bos comes first where the model wants it; special tokens in the text are special.
std::vector<std::int32_t> TextPromptIds(const Serving& serving, std::string_view text);

// Checks the options against the model and its context. `prompt_field` ("messages") names the
// prompt in errors; a prompt that does not fit has code context_length_exceeded.
absl::StatusOr<GenerationSpec> PlanGeneration(const Serving& serving, std::string_view prompt_field,
                                              std::vector<std::int32_t> prompt,
                                              const GenerationOptions& options);

// A seed for requests that bring none.
std::uint64_t RandomSeed();
// `prefix` and 24 random letters and digits.
std::string RandomId(std::string_view prefix);

}  // namespace tandem
