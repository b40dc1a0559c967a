#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/sample/sampler.h"
#include "lib/text/chat_template.h"

namespace tandem {

// The requests of OpenAI's API, parsed and checked as far as that goes without the model. What a
// parser refuses is InvalidArgument carrying the field's name (openai/error.h).

inline constexpr std::int32_t kMaxChoices = 128;  // prompts times n

// What both endpoints share.
struct CommonRequest {
  std::string model;
  SamplingParams sampling;  // `seed` is set only when has_seed
  bool has_seed = false;
  std::optional<std::int32_t> max_tokens;  // absent: the endpoint's default
  std::int32_t n = 1;
  std::vector<std::string> stops;
  bool stream = false;
  bool include_usage = false;
  bool ignore_eos = false;
  bool return_tokens_as_token_ids = false;
};

struct ChatRequest {
  CommonRequest common;  // sampling.num_logprobs >= 0: log-probabilities are wanted
  std::vector<ChatMessage> messages;
};

using Prompt = std::variant<std::string, std::vector<std::int32_t>>;

struct CompletionRequest {
  CommonRequest common;
  std::vector<Prompt> prompts;  // at least one
  bool echo = false;
};

absl::StatusOr<ChatRequest> ParseChatRequest(std::string_view body);
absl::StatusOr<CompletionRequest> ParseCompletionRequest(std::string_view body);

}  // namespace tandem
