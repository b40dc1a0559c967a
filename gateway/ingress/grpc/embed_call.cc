#include "gateway/ingress/grpc/embed_call.h"

#include <utility>
#include <vector>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/grpc/request_reader.h"
#include "lib/base/status_macros.h"

namespace tandem {

EmbedCall::EmbedCall(CallHost& host, grpc::CallbackServerContext* context)
    : EngineCall(host, context, {kMethod, "grpc.Embed", "embd-"}) {}

EmbedCall* EmbedCall::Start(CallHost& host, grpc::CallbackServerContext* context) {
  auto* call = new EmbedCall(host, context);
  call->Admit(*context);
  return call;
}

absl::StatusOr<AnswerSpec> EmbedCall::Plan(const Serving& serving) {
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest read, ReadEmbedRequest(request()));
  wish_ = *read.embed;
  TANDEM_ASSIGN_OR_RETURN(std::vector<AnswerSpec> answers, PlanAnswers(serving, read));
  return std::move(answers.front());
}

EmbedCall::Action EmbedCall::NextLocked() {
  if (answer() != nullptr) {
    RunningAnswer::Update update = answer()->Take();
    if (!update.embedding.empty()) {
      GrantWish(wish_, update.embedding);
      response().mutable_embedding()->Add(update.embedding.begin(), update.embedding.end());
      response().mutable_usage()->set_prompt_tokens(answer()->prompt_tokens());
    }
    if (update.finished) EndLocked(update.status);
  }
  if (!ending()) return Action::kNone;
  return end_status().ok() ? Action::kWriteLast : Action::kFinish;
}

}  // namespace tandem
