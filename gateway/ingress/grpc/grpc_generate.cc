#include "gateway/ingress/grpc/grpc_generate.h"

#include <utility>

#include "gateway/ingress/generation_plan.h"
#include "gateway/ingress/grpc/generate_request.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::string_view kEndpoint = "grpc.Generate";

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string BytesOf(const Tokenizer& tokenizer, std::int32_t token) {
  if (token < 0 || static_cast<std::size_t>(token) >= tokenizer.size()) return "";
  return tokenizer.BytesOf(token);
}

void FillTokenInfo(const Tokenizer& tokenizer, const ScoredToken& token, v1::TokenInfo& info) {
  info.set_token(token.token);
  info.set_piece(BytesOf(tokenizer, token.token));
  info.set_has_logprob(token.logprob.has_value());
  info.set_logprob(token.logprob.value_or(0.0f));
  for (const TokenLogprob& other : token.top) {
    v1::Alternative& alternative = *info.add_top();
    alternative.set_token(other.token);
    alternative.set_piece(BytesOf(tokenizer, other.token));
    alternative.set_logprob(other.logprob);
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  // Both use the canonical codes. OUT_OF_RANGE is a caller's mistake too.
  auto code = static_cast<grpc::StatusCode>(status.code());
  if (absl::IsOutOfRange(status)) code = grpc::StatusCode::INVALID_ARGUMENT;
  return grpc::Status(code, std::string(status.message()));
}

std::string_view GrpcCodeName(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return "OK";
    case grpc::StatusCode::CANCELLED:
      return "CANCELLED";
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case grpc::StatusCode::NOT_FOUND:
      return "NOT_FOUND";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case grpc::StatusCode::UNAVAILABLE:
      return "UNAVAILABLE";
    case grpc::StatusCode::UNAUTHENTICATED:
      return "UNAUTHENTICATED";
    case grpc::StatusCode::INTERNAL:
      return "INTERNAL";
    default:
      return "OTHER";
  }
}

GenerateReactor::GenerateReactor(IngressMetrics* metrics) : metrics_(metrics) {
  core_->reactor = this;
}

GenerateReactor* GenerateReactor::Start(absl::StatusOr<std::shared_ptr<const Serving>> serving,
                                        const v1::GenerateRequest& request,
                                        const PostFunction& post, IngressMetrics* metrics) {
  auto* reactor = new GenerateReactor(metrics);
  // The pump may run before this returns.
  const absl::Status status =
      serving.ok() ? reactor->Begin(*std::move(serving), request, post) : serving.status();
  if (!status.ok()) {
    Action action = Action::kNone;
    {
      const std::lock_guard<std::mutex> lock(reactor->core_->mutex);
      reactor->EndLocked(status);
      action = reactor->NextLocked();
    }
    reactor->Perform(action);
  }
  return reactor;
}

absl::Status GenerateReactor::Begin(std::shared_ptr<const Serving> serving,
                                    const v1::GenerateRequest& request, const PostFunction& post) {
  TANDEM_ASSIGN_OR_RETURN(GenerationSpec spec, PlanGenerate(*serving, request));
  const std::shared_ptr<Core> core = core_;
  const std::lock_guard<std::mutex> lock(core->mutex);
  if (ending_) return absl::OkStatus();  // cancelled already
  id_ = RandomId("gen-");
  spec.request.id = id_;
  want_logprobs_ = request.has_logprobs();
  TANDEM_ASSIGN_OR_RETURN(
      generation_, Generation::Create(*serving->engine, serving->model.tokenizer, std::move(spec)));
  serving_ = std::move(serving);
  const std::weak_ptr<Core> weak = core;
  return generation_->Start([weak, post] {
    post([weak] {
      const std::shared_ptr<Core> alive = weak.lock();
      if (alive == nullptr) return;
      Action action = Action::kNone;
      GenerateReactor* reactor = nullptr;
      {
        const std::lock_guard<std::mutex> inner(alive->mutex);
        reactor = alive->reactor;
        if (reactor != nullptr) action = reactor->NextLocked();
      }
      // A reactor with an action under way is not deleted: gRPC waits for the action's end.
      if (reactor != nullptr && action != Action::kNone) reactor->Perform(action);
    });
  });
}

void GenerateReactor::Pump() {
  Action action = Action::kNone;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    action = NextLocked();
  }
  Perform(action);
}

void GenerateReactor::EndLocked(const absl::Status& status) {
  if (ending_) return;
  ending_ = true;
  end_status_ = status;
  if (metrics_ != nullptr) {
    metrics_->CountRequest(kEndpoint, GrpcCodeName(ToGrpcStatus(status).error_code()));
    metrics_->ObserveDuration(kEndpoint, SecondsSince(begin_));
    if (generation_ != nullptr) {
      metrics_->CountTokens(generation_->prompt_tokens(), generation_->completion_tokens());
    }
  }
  generation_.reset();  // cancels what runs
}

void GenerateReactor::FillLocked(Generation::Update update) {
  response_.Clear();
  response_.set_id(id_);
  response_.set_text(std::move(update.text));
  for (const ScoredToken& token : update.tokens) {
    response_.add_tokens(token.token);
    if (want_logprobs_) {
      FillTokenInfo(*serving_->model.tokenizer, token, *response_.add_logprobs());
    }
  }
  if (!update.finished) return;
  response_.set_finish_reason(update.reason == FinishReason::kStop ? "stop" : "length");
  response_.mutable_usage()->set_prompt_tokens(generation_->prompt_tokens());
  response_.mutable_usage()->set_completion_tokens(generation_->completion_tokens());
}

GenerateReactor::Action GenerateReactor::NextLocked() {
  if (writing_ || finish_called_) return Action::kNone;
  if (ending_) {
    finish_called_ = true;
    return Action::kFinish;
  }
  if (generation_ == nullptr) return Action::kNone;
  Generation::Update update = generation_->Take();
  if (update.begun && !std::exchange(begun_, true) && metrics_ != nullptr) {
    metrics_->ObserveFirstToken(SecondsSince(begin_));
  }
  if (!update.status.ok()) {
    EndLocked(update.status);
    finish_called_ = true;
    return Action::kFinish;
  }
  const bool finished = update.finished;
  if (!finished && update.text.empty() && update.tokens.empty()) return Action::kNone;
  FillLocked(std::move(update));
  if (!finished) {
    writing_ = true;
    return Action::kWrite;
  }
  EndLocked(absl::OkStatus());
  finish_called_ = true;
  return Action::kWriteLast;
}

// Outside the lock: gRPC may call back at once.
void GenerateReactor::Perform(Action action) {
  switch (action) {
    case Action::kNone:
      return;
    case Action::kWrite:
      StartWrite(&response_);
      return;
    case Action::kWriteLast:
      StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
      return;
    case Action::kFinish:
      Finish(ToGrpcStatus(end_status_));
      return;
  }
}

void GenerateReactor::OnWriteDone(bool ok) {
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    writing_ = false;
    if (!ok) EndLocked(absl::CancelledError("the client has left"));
  }
  Pump();
}

void GenerateReactor::OnCancel() {
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    EndLocked(absl::CancelledError("the call was cancelled"));
  }
  Pump();
}

void GenerateReactor::OnDone() {
  const std::shared_ptr<Core> core = core_;
  {
    const std::lock_guard<std::mutex> lock(core->mutex);
    core->reactor = nullptr;
  }
  delete this;
}

}  // namespace tandem
