#include "gateway/ingress/answer/endpoints.h"

#include <utility>

#include "absl/time/clock.h"
#include "gateway/ingress/generation_plan.h"
#include "gateway/ingress/openai/request.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"

namespace tandem {
namespace {

constexpr std::int32_t kDefaultCompletionTokens = 16;  // of OpenAI's legacy API

GenerationOptions OptionsOf(const CommonRequest& common) {
  return GenerationOptions{.sampling = common.sampling,
                           .max_tokens = common.max_tokens,
                           .default_max_tokens = std::nullopt,
                           .stops = common.stops,
                           .echo = false,
                           .ignore_eos = common.ignore_eos};
}

// n choices of one prompt: one seed apart.
void AddChoices(const GenerationSpec& spec, std::int32_t n, const std::string& id,
                std::vector<GenerationSpec>& choices) {
  for (std::int32_t i = 0; i < n; ++i) {
    GenerationSpec& choice = choices.emplace_back(spec);
    choice.request.sampling.seed += static_cast<std::uint64_t>(i);
    choice.request.id = Cat(id, "/", choices.size() - 1);
  }
}

AnswerInfo InfoOf(const Serving& serving, const CommonRequest& common, std::string id) {
  return AnswerInfo{.id = std::move(id),
                    .created = absl::ToUnixSeconds(absl::Now()),
                    .model = serving.model.id,
                    .tokenizer = serving.model.tokenizer,
                    .num_logprobs = common.sampling.num_logprobs,
                    .tokens_as_ids = common.return_tokens_as_token_ids,
                    .include_usage = common.include_usage};
}

}  // namespace

absl::StatusOr<std::unique_ptr<GenerationJob>> StartChat(std::shared_ptr<const Serving> serving,
                                                         std::string_view body,
                                                         IngressMetrics* metrics,
                                                         std::function<void()> wake) {
  TANDEM_ASSIGN_OR_RETURN(ChatRequest request, ParseChatRequest(body));
  CommonRequest& common = request.common;
  TANDEM_RETURN_IF_ERROR(CheckModelName(*serving, common.model));
  if (!common.has_seed) common.sampling.seed = RandomSeed();
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> ids, ChatPromptIds(*serving, request.messages));
  TANDEM_ASSIGN_OR_RETURN(GenerationSpec spec,
                          PlanGeneration(*serving, "messages", std::move(ids), OptionsOf(common)));
  spec.stop_token = EndOfTurnId(*serving->model.tokenizer);
  const std::string id = RandomId("chatcmpl-");
  GenerationJobSpec job;
  job.prompt_tokens = static_cast<std::int64_t>(spec.request.prompt.size());
  AddChoices(spec, common.n, id, job.choices);
  job.stream = common.stream;
  job.include_usage = common.include_usage;
  job.format = MakeChatFormat(InfoOf(*serving, common, id));
  job.endpoint = "/v1/chat/completions";
  job.metrics = metrics;
  job.serving = std::move(serving);
  return GenerationJob::Start(std::move(job), std::move(wake));
}

absl::StatusOr<std::unique_ptr<GenerationJob>> StartCompletion(
    std::shared_ptr<const Serving> serving, std::string_view body, IngressMetrics* metrics,
    std::function<void()> wake) {
  TANDEM_ASSIGN_OR_RETURN(CompletionRequest request, ParseCompletionRequest(body));
  CommonRequest& common = request.common;
  TANDEM_RETURN_IF_ERROR(CheckModelName(*serving, common.model));
  if (!common.has_seed) common.sampling.seed = RandomSeed();
  GenerationOptions options = OptionsOf(common);
  options.default_max_tokens = kDefaultCompletionTokens;
  options.echo = request.echo;
  const std::string id = RandomId("cmpl-");
  GenerationJobSpec job;
  for (Prompt& prompt : request.prompts) {
    std::vector<std::int32_t> ids;
    if (const std::string* text = std::get_if<std::string>(&prompt)) {
      ids = TextPromptIds(*serving, *text);
    } else {
      ids = std::get<std::vector<std::int32_t>>(std::move(prompt));
    }
    TANDEM_ASSIGN_OR_RETURN(GenerationSpec spec,
                            PlanGeneration(*serving, "prompt", std::move(ids), options));
    job.prompt_tokens += static_cast<std::int64_t>(spec.request.prompt.size());
    AddChoices(spec, common.n, id, job.choices);
  }
  job.stream = common.stream;
  job.include_usage = common.include_usage;
  job.format = MakeCompletionFormat(InfoOf(*serving, common, id));
  job.endpoint = "/v1/completions";
  job.metrics = metrics;
  job.serving = std::move(serving);
  return GenerationJob::Start(std::move(job), std::move(wake));
}

}  // namespace tandem
