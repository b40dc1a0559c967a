#include "gateway/ingress/answer/answer_plan.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "gateway/ingress/request/answer_grammar.h"
#include "gateway/ingress/request/conversation.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/tool_text.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/chat_template.h"

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
  const EngineLimits limits = serving.engine->limits();
  if (limits.encoder) {
    return InvalidField(
        field,
        Cat("this model's context is ", limits.context_tokens,
            " tokens, and it embeds a text in one step, of at most ", limits.step_tokens,
            " tokens (--max_tokens_per_step); the text has more"),
        "context_length_exceeded");
  }
  return InvalidField(
      field,
      Cat("this model's context is ", ContextTokens(serving), " tokens; the prompt has more"),
      "context_length_exceeded");
}

absl::StatusOr<std::int32_t> PlanMaxTokens(const Serving& serving, std::string_view field,
                                           std::size_t prompt_tokens,
                                           const InferenceRequest& options) {
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

absl::Status CheckModelName(const Serving& serving, std::string_view name) {
  if (name.empty() || name == serving.model.id) return absl::OkStatus();
  return ModelNotFound(name);
}

// What every answer to the request must keep to; null where it is free. `end_of_turn`: a further
// token that ends it, or kNoPiece.
absl::StatusOr<std::shared_ptr<const Constraint>> ConstraintOf(const Serving& serving,
                                                               const InferenceRequest& request,
                                                               std::int32_t end_of_turn) {
  TANDEM_ASSIGN_OR_RETURN(std::string grammar, AnswerGrammar(request));
  if (grammar.empty()) return nullptr;
  const std::string field =
      MayCallTools(request) ? std::string("tools") : request.response_format.field;
  if (grammar.size() > kMaxConstraintBytes) {
    return InvalidField(field, Cat("'", field, "': its grammar has ", grammar.size(),
                                   " bytes, and at most ", kMaxConstraintBytes, " are followed"));
  }
  if (request.ignore_eos) {
    return InvalidField("ignore_eos", Cat("'ignore_eos': not together with '", field, "'"));
  }
  auto constraint = std::make_shared<Constraint>();
  constraint->grammar = std::move(grammar);
  constraint->stop_tokens = serving.model.eos_ids;
  if (end_of_turn != kNoPiece) constraint->stop_tokens.push_back(end_of_turn);
  return constraint;
}

absl::StatusOr<std::vector<std::int32_t>> ChatPromptIds(const Serving& serving,
                                                        std::string_view field,
                                                        const ChatPrompt& chat,
                                                        std::string_view tools) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<ChatMessage> turns, TurnsOf(chat, tools));
  absl::StatusOr<std::vector<std::int32_t>> ids =
      EncodeGemmaChat(*serving.model.tokenizer, turns,
                      {.add_generation_prompt = chat.add_generation_prompt,
                       .continue_final_message = chat.continue_final_message,
                       .max_ids = ContextTokens(serving)});
  if (ids.ok()) return ids;
  if (absl::IsOutOfRange(ids.status())) return PromptTooLong(serving, field);
  if (absl::IsFailedPrecondition(ids.status())) {
    return InvalidField(field, Cat("this model cannot chat: ", ids.status().message()));
  }
  return InvalidField(field, std::string(ids.status().message()));
}

// The most that the model embeds at once.
std::size_t EmbeddedTokens(const Serving& serving) {
  const EngineLimits limits = serving.engine->limits();
  const std::size_t context = ContextTokens(serving);
  if (!limits.encoder) return context;
  return std::min(context, static_cast<std::size_t>(std::max(limits.step_tokens, 0)));
}

absl::Status CheckGenerates(const Serving& serving, const InferenceRequest& request) {
  if (request.embed.has_value() || !serving.engine->limits().encoder) return absl::OkStatus();
  return InvalidField("model", Cat("'", serving.model.id,
                                   "' is an embedding model: it generates no text. It answers "
                                   "/v1/embeddings, /api/embed and gRPC's Embed"));
}

// Special tokens in the text are special, or text.
absl::StatusOr<std::vector<std::int32_t>> TextPromptIds(const Serving& serving,
                                                        std::string_view field,
                                                        std::string_view text, bool parse_special) {
  const Tokenizer& tokenizer = *serving.model.tokenizer;
  absl::StatusOr<std::vector<std::int32_t>> ids = tokenizer.EncodeAtMost(
      text, ContextTokens(serving),
      {.add_bos = tokenizer.vocabulary().add_bos, .parse_special = parse_special});
  if (absl::IsOutOfRange(ids.status())) return PromptTooLong(serving, field);
  return ids;
}

// Special tokens in it are text.
absl::StatusOr<std::vector<std::int32_t>> EmbeddedIds(const Serving& serving,
                                                      std::string_view field,
                                                      std::string_view text) {
  absl::StatusOr<std::vector<std::int32_t>> ids =
      TextPromptIds(serving, field, text, /*parse_special=*/false);
  const Vocabulary& vocabulary = serving.model.tokenizer->vocabulary();
  if (ids.ok() && vocabulary.add_eos && vocabulary.eos_id != kNoPiece)
    ids->push_back(vocabulary.eos_id);
  return ids;
}

absl::StatusOr<AnswerSpec> PlanAnswer(const Serving& serving, const InferenceRequest& request,
                                      std::vector<std::int32_t> prompt) {
  TANDEM_RETURN_IF_ERROR(CheckTokens(serving, request.prompt_field, prompt));
  AnswerSpec spec;
  TANDEM_ASSIGN_OR_RETURN(spec.request.max_tokens,
                          PlanMaxTokens(serving, request.prompt_field, prompt.size(), request));
  spec.request.prompt = std::move(prompt);
  spec.request.sampling = request.sampling;
  // One token has nothing before it to be scored by.
  spec.request.score_prompt =
      request.echo && request.sampling.num_logprobs >= 0 && spec.request.prompt.size() > 1;
  spec.request.ignore_eos = request.ignore_eos;
  spec.stops = request.stops;
  spec.echo = request.echo;
  return spec;
}

// About what a value takes, spelled as JSON.
constexpr std::int64_t kEmbeddingValueBytes = 13;

absl::Status CheckEmbeddings(const Serving& serving, const InferenceRequest& request) {
  const EngineLimits limits = serving.engine->limits();
  const std::int64_t hidden = limits.hidden_size;
  const std::int64_t dimensions = request.embed->dimensions.value_or(hidden);
  if (limits.encoder && (dimensions < 1 || dimensions > hidden)) {
    return InvalidField("dimensions",
                        Cat("'dimensions': expected 1 to ", hidden,
                            " (what this model's embeddings have), found ", dimensions));
  }
  if (!limits.encoder && dimensions != hidden) {
    return InvalidField("dimensions", Cat("'dimensions': this model's embeddings have ", hidden,
                                          " values, and fewer of them mean nothing: expected ",
                                          hidden, ", found ", dimensions));
  }
  const std::int64_t most = kMaxAnswerBytes / (dimensions * kEmbeddingValueBytes);
  if (static_cast<std::int64_t>(request.prompts.size()) <= most) return absl::OkStatus();
  return InvalidField(request.prompt_field,
                      Cat("'", request.prompt_field, "': expected at most ", most, " inputs of ",
                          dimensions, " values each, so that the answer stays under ",
                          kMaxAnswerBytes >> 20, " MiB, found ", request.prompts.size()));
}

absl::StatusOr<AnswerSpec> PlanEmbedding(const Serving& serving, std::string_view field,
                                         std::vector<std::int32_t> prompt) {
  TANDEM_RETURN_IF_ERROR(CheckTokens(serving, field, prompt));
  if (prompt.size() > EmbeddedTokens(serving)) return PromptTooLong(serving, field);
  AnswerSpec spec;
  spec.request.prompt = std::move(prompt);
  spec.request.pool_prompt = true;
  return spec;
}

}  // namespace

absl::StatusOr<std::vector<std::int32_t>> PromptIds(const Serving& serving,
                                                    std::string_view prompt_field, Prompt prompt,
                                                    std::string_view tools) {
  if (const ChatPrompt* chat = std::get_if<ChatPrompt>(&prompt)) {
    return ChatPromptIds(serving, prompt_field, *chat, tools);
  }
  if (const std::string* text = std::get_if<std::string>(&prompt)) {
    return TextPromptIds(serving, prompt_field, *text, /*parse_special=*/true);
  }
  return std::get<std::vector<std::int32_t>>(std::move(prompt));
}

absl::StatusOr<std::vector<std::vector<std::int32_t>>> PlanPrompts(const Serving& serving,
                                                                   InferenceRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckModelName(serving, request.model));
  TANDEM_RETURN_IF_ERROR(CheckLimits(request, serving.limits));
  const std::string tools =
      MayCallTools(request) ? ToolInstructions(request.tools, request.parallel_tool_calls) : "";
  std::vector<std::vector<std::int32_t>> prompts;
  for (Prompt& prompt : request.prompts) {
    const std::string* text = std::get_if<std::string>(&prompt);
    absl::StatusOr<std::vector<std::int32_t>> ids =
        text != nullptr && request.embed.has_value()
            ? EmbeddedIds(serving, request.prompt_field, *text)
            : PromptIds(serving, request.prompt_field, std::move(prompt), tools);
    TANDEM_RETURN_IF_ERROR(ids.status());
    prompts.push_back(*std::move(ids));
  }
  return prompts;
}

absl::StatusOr<std::vector<AnswerSpec>> PlanAnswers(const Serving& serving,
                                                    InferenceRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckGenerates(serving, request));
  if (request.embed.has_value()) TANDEM_RETURN_IF_ERROR(CheckEmbeddings(serving, request));
  TANDEM_RETURN_IF_ERROR(CheckSampling(serving, request.sampling));
  if (!std::exchange(request.has_seed, true)) request.sampling.seed = RandomSeed();
  // They are chats, or none is.
  const bool chat =
      !request.prompts.empty() && std::holds_alternative<ChatPrompt>(request.prompts.front());
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::vector<std::int32_t>> prompts,
                          PlanPrompts(serving, request));
  const std::int32_t end_of_turn = chat ? EndOfTurnId(*serving.model.tokenizer) : kNoPiece;
  TANDEM_ASSIGN_OR_RETURN(request.sampling.constraint, ConstraintOf(serving, request, end_of_turn));
  std::vector<AnswerSpec> answers;
  for (std::vector<std::int32_t>& ids : prompts) {
    if (request.embed.has_value()) {
      TANDEM_ASSIGN_OR_RETURN(AnswerSpec embedding,
                              PlanEmbedding(serving, request.prompt_field, std::move(ids)));
      answers.push_back(std::move(embedding));
      continue;
    }
    TANDEM_ASSIGN_OR_RETURN(AnswerSpec spec, PlanAnswer(serving, request, std::move(ids)));
    spec.stop_token = end_of_turn;
    if (MayCallTools(request)) spec.call_id_prefix = request.call_id_prefix;
    answers.push_back(std::move(spec));
  }
  return answers;
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

std::uint64_t RandomSeed() { return RandomEngine()(); }

std::string RandomId(std::string_view prefix) {
  constexpr std::string_view kLetters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::uniform_int_distribution<std::size_t> pick(0, kLetters.size() - 1);
  std::string id(prefix);
  for (int i = 0; i < 24; ++i) id.push_back(kLetters[pick(RandomEngine())]);
  return id;
}

std::string RequestId(std::string_view given) {
  constexpr std::size_t kMostBytes = 64;
  const bool plain = !given.empty() && given.size() <= kMostBytes &&
                     std::all_of(given.begin(), given.end(), [](char c) {
                       return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
                              c == '_' || c == '.';
                     });
  return plain ? std::string(given) : RandomId("req_");
}

}  // namespace tandem
