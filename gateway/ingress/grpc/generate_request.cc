#include "gateway/ingress/grpc/generate_request.h"

#include <algorithm>
#include <utility>

#include "gateway/ingress/generation_plan.h"
#include "gateway/ingress/openai/error.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"
#include "lib/text/chat_template.h"
#include "lib/text/stop_matcher.h"

namespace tandem {
namespace {

constexpr std::int32_t kMaxLogprobs = 20;

absl::StatusOr<GenerationOptions> OptionsOf(const v1::GenerateRequest& request) {
  GenerationOptions options;
  SamplingParams& sampling = options.sampling;
  if (request.has_temperature()) sampling.temperature = request.temperature();
  if (request.has_top_p()) sampling.top_p = request.top_p();
  if (request.has_top_k()) sampling.top_k = request.top_k();
  if (request.has_min_p()) sampling.min_p = request.min_p();
  sampling.frequency_penalty = request.frequency_penalty();
  sampling.presence_penalty = request.presence_penalty();
  sampling.logit_bias.assign(request.logit_bias().begin(), request.logit_bias().end());
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());
  sampling.seed = request.has_seed() ? request.seed() : RandomSeed();
  if (request.has_logprobs()) {
    if (request.logprobs() < 0 || request.logprobs() > kMaxLogprobs) {
      return InvalidField("logprobs", Cat("'logprobs': expected 0 to ", kMaxLogprobs, ", found ",
                                          request.logprobs()));
    }
    sampling.num_logprobs = request.logprobs();
  }
  if (request.max_tokens() < 0) {
    return InvalidField("max_tokens",
                        Cat("'max_tokens': expected 0 or more, found ", request.max_tokens()));
  }
  if (request.max_tokens() > 0) options.max_tokens = request.max_tokens();
  options.stops.assign(request.stop().begin(), request.stop().end());
  const absl::Status stops = StopMatcher::Create(options.stops).status();
  if (!stops.ok()) return InvalidField("stop", Cat("'stop': ", stops.message()));
  options.echo = request.echo();
  options.ignore_eos = request.ignore_eos();
  return options;
}

absl::StatusOr<std::vector<std::int32_t>> ChatIds(const Serving& serving,
                                                  const v1::ChatPrompt& chat) {
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.push_back({.role = message.role(), .content = message.content()});
  }
  if (messages.empty()) {
    return InvalidField("chat.messages", "'chat.messages': expected at least one message");
  }
  return ChatPromptIds(serving, messages);
}

}  // namespace

absl::StatusOr<GenerationSpec> PlanGenerate(const Serving& serving,
                                            const v1::GenerateRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckModelName(serving, request.model()));
  TANDEM_ASSIGN_OR_RETURN(const GenerationOptions options, OptionsOf(request));
  std::vector<std::int32_t> ids;
  std::string_view field;
  std::int32_t stop_token = kNoPiece;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kChat: {
      field = "chat";
      TANDEM_ASSIGN_OR_RETURN(ids, ChatIds(serving, request.chat()));
      stop_token = EndOfTurnId(*serving.model.tokenizer);
      break;
    }
    case v1::GenerateRequest::kText:
      field = "text";
      ids = TextPromptIds(serving, request.text());
      break;
    case v1::GenerateRequest::kTokens:
      field = "tokens";
      ids.assign(request.tokens().ids().begin(), request.tokens().ids().end());
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return InvalidField("prompt", "'prompt': expected chat, text or tokens, found nothing");
  }
  TANDEM_ASSIGN_OR_RETURN(GenerationSpec spec,
                          PlanGeneration(serving, field, std::move(ids), options));
  spec.stop_token = stop_token;
  return spec;
}

}  // namespace tandem
