#include "gateway/ingress/answer_plan.h"

#include <algorithm>
#include <random>
#include <utility>

#include "gateway/ingress/openai/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

absl::Status CheckTokens(const Serving& serving, std::string_view field,
                         const std::vector<std::int32_t>& prompt) {
  const std::int32_t vocab_size = serving.engine->limits().vocab_size;
  if (prompt.empty()) {
    return InvalidField(field, Cat("'", field, "': expected at least one token"));
  }
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= vocab_size) {
      return InvalidField(field, Cat("'", field, "': token ", i, ": expected an id from 0 to ",
                                     vocab_size - 1, ", found ", prompt[i]));
    }
  }
  return absl::OkStatus();
}

// The ranges that do not depend on the model are sampling_rules.h's.
absl::Status CheckSampling(const Serving& serving, const SamplingParams& sampling) {
  const std::int32_t vocab_size = serving.engine->limits().vocab_size;
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (token >= vocab_size) {
      return InvalidField("logit_bias", Cat("'logit_bias': expected token ids from 0 to ",
                                            vocab_size - 1, ", found ", token));
    }
  }
  const absl::Status valid = ValidateSamplingParams(sampling, vocab_size);
  return valid.ok() ? valid : InvalidField("", std::string(valid.message()));
}

std::size_t ContextTokens(const Serving& serving) {
  return static_cast<std::size_t>(std::max(serving.engine->limits().context_tokens, 0));
}

absl::Status PromptTooLong(const Serving& serving, std::string_view field) {
  return InvalidField(
      field,
      Cat("this model's context is ", ContextTokens(serving), " tokens; the prompt has more"),
      "context_length_exceeded");
}

absl::StatusOr<std::int32_t> PlanMaxTokens(const Serving& serving, std::string_view field,
                                           std::size_t prompt_tokens,
                                           const AnswerOptions& options) {
  const auto context = static_cast<std::int64_t>(serving.engine->limits().context_tokens);
  const std::int64_t left = context - static_cast<std::int64_t>(prompt_tokens);
  const std::int64_t least = options.max_tokens.value_or(1) == 0 ? 0 : 1;
  if (left < least) {
    return InvalidField(
        field,
        Cat("this model's context is ", context, " tokens; the prompt has ", prompt_tokens,
            least == 0 ? "" : ", which leaves no room for an answer"),
        "context_length_exceeded");
  }
  if (options.max_tokens.has_value()) {
    if (*options.max_tokens > left) {
      return InvalidField(
          field,
          Cat("this model's context is ", context, " tokens; the prompt has ", prompt_tokens,
              " and ", *options.max_tokens, " were asked for: together too many"),
          "context_length_exceeded");
    }
    return *options.max_tokens;
  }
  if (options.default_max_tokens.has_value()) {
    return static_cast<std::int32_t>(std::min<std::int64_t>(left, *options.default_max_tokens));
  }
  return static_cast<std::int32_t>(left);
}

std::mt19937_64& RandomEngine() {
  thread_local std::mt19937_64 engine = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return engine;
}

}  // namespace

absl::Status CheckModelName(const Serving& serving, std::string_view name) {
  if (name.empty() || name == serving.model.id) return absl::OkStatus();
  return ModelNotFound(name);
}

absl::StatusOr<std::vector<std::int32_t>> ChatPromptIds(const Serving& serving,
                                                        absl::Span<const ChatMessage> messages) {
  absl::StatusOr<std::vector<std::int32_t>> ids =
      EncodeGemmaChat(*serving.model.tokenizer, messages, {.max_ids = ContextTokens(serving)});
  if (ids.ok()) return ids;
  if (absl::IsOutOfRange(ids.status())) return PromptTooLong(serving, "messages");
  if (absl::IsFailedPrecondition(ids.status())) {
    return InvalidField("messages", Cat("this model cannot chat: ", ids.status().message()));
  }
  return InvalidField("messages", std::string(ids.status().message()));
}

absl::StatusOr<std::vector<std::int32_t>> TextPromptIds(const Serving& serving,
                                                        std::string_view field,
                                                        std::string_view text) {
  const Tokenizer& tokenizer = *serving.model.tokenizer;
  absl::StatusOr<std::vector<std::int32_t>> ids =
      tokenizer.EncodeAtMost(text, ContextTokens(serving),
                             {.add_bos = tokenizer.vocabulary().add_bos, .parse_special = true});
  if (absl::IsOutOfRange(ids.status())) return PromptTooLong(serving, field);
  return ids;
}

absl::Status AnswerTooLong() {
  return InvalidField("logprobs",
                      Cat("the answer would go over the limit of ", kMaxAnswerBytes >> 20,
                          " MiB: ask for fewer tokens, choices or log-probabilities, or for a "
                          "stream without echo"));
}

absl::Status CheckEchoBytes(std::int64_t prompt_tokens, std::int32_t num_logprobs) {
  if (num_logprobs < 0) return absl::OkStatus();
  const std::int64_t most = kMaxAnswerBytes / ScoredTokenBytes(num_logprobs);
  if (prompt_tokens <= most) return absl::OkStatus();
  return InvalidField("echo", Cat("the log-probabilities of ", prompt_tokens,
                                  " echoed prompt tokens (over all "
                                  "choices) would go over an answer's limit of ",
                                  kMaxAnswerBytes >> 20, " MiB: with 'logprobs' ", num_logprobs,
                                  " at most ", most, " tokens can be echoed"));
}

absl::StatusOr<AnswerSpec> PlanAnswer(const Serving& serving, std::string_view prompt_field,
                                      std::vector<std::int32_t> prompt,
                                      const AnswerOptions& options) {
  TANDEM_RETURN_IF_ERROR(CheckTokens(serving, prompt_field, prompt));
  TANDEM_RETURN_IF_ERROR(CheckSampling(serving, options.sampling));
  AnswerSpec spec;
  TANDEM_ASSIGN_OR_RETURN(spec.request.max_tokens,
                          PlanMaxTokens(serving, prompt_field, prompt.size(), options));
  spec.request.prompt = std::move(prompt);
  spec.request.sampling = options.sampling;
  // One token has nothing before it to be scored by.
  spec.request.score_prompt =
      options.echo && options.sampling.num_logprobs >= 0 && spec.request.prompt.size() > 1;
  spec.request.ignore_eos = options.ignore_eos;
  spec.stops = options.stops;
  spec.echo = options.echo;
  return spec;
}

std::uint64_t RandomSeed() { return RandomEngine()(); }

std::string RandomId(std::string_view prefix) {
  constexpr std::string_view kLetters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::uniform_int_distribution<std::size_t> pick(0, kLetters.size() - 1);
  std::string id(prefix);
  for (int i = 0; i < 24; ++i) id.push_back(kLetters[pick(RandomEngine())]);
  return id;
}

}  // namespace tandem
