#include "gateway/ingress/grpc/embed_call.h"

#include <utility>
#include <vector>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/grpc/request_reader.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::string_view kEndpoint = "grpc.Embed";

}  // namespace

EmbedCall::EmbedCall(CallHost& host, grpc::CallbackServerContext* context)
    : OneRequestCall(host, context, kMethod), record_(host, kEndpoint) {
  core_->call = this;
}

EmbedCall* EmbedCall::Start(CallHost& host, grpc::CallbackServerContext* context) {
  auto* call = new EmbedCall(host, context);
  const absl::Status admitted = call->record_.Admit(*context);
  if (admitted.ok()) {
    call->Receive();
  } else {
    call->End(admitted);
  }
  return call;
}

// Until the request is planned, nothing finishes the call, so it lives.
void EmbedCall::Received(const absl::Status& status) {
  if (!status.ok()) return End(status);
  if (!host().Work([this] { Plan(); })) End(absl::UnavailableError("too many requests at a time"));
}

void EmbedCall::Plan() {
  const auto plan = [this]() -> absl::StatusOr<std::vector<AnswerSpec>> {
    TANDEM_ASSIGN_OR_RETURN(serving_, host().backend.serving->Get());
    TANDEM_ASSIGN_OR_RETURN(InferenceRequest read, ReadEmbedRequest(request()));
    wish_ = *read.embed;
    return PlanAnswers(*serving_, read);
  };
  absl::StatusOr<std::vector<AnswerSpec>> specs = plan();
  DropRequest();
  absl::Status status = specs.status();
  if (status.ok()) {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    if (!ending_) status = BeginLocked(std::move(specs->front()));
  }
  End(status);
}

absl::Status EmbedCall::BeginLocked(AnswerSpec spec) {
  record_.Name("embd-", serving_->model.id, &spec.request);
  TANDEM_ASSIGN_OR_RETURN(
      answer_,
      RunningAnswer::Create(*serving_->engine, serving_->model.tokenizer, std::move(spec)));
  const std::weak_ptr<Core> weak = core_;
  return answer_->Start([weak, &host = host()] {
    host.post([weak] {
      const std::shared_ptr<Core> core = weak.lock();
      if (core == nullptr) return;
      EmbedCall* call = nullptr;
      {
        const std::lock_guard<std::mutex> lock(core->mutex);
        if (core->call != nullptr && core->call->NextLocked()) call = core->call;
      }
      // A call that is not finished is not deleted.
      if (call != nullptr) call->FinishCall();
    });
  });
}

// The request is as good as planned; an error ends the call.
void EmbedCall::End(const absl::Status& status) {
  bool finish = false;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    planning_ = false;
    if (!status.ok()) EndLocked(status);
    finish = NextLocked();
  }
  if (finish) FinishCall();
}

void EmbedCall::EndLocked(const absl::Status& status) {
  if (ending_) return;
  ending_ = true;
  end_status_ = status;
  Ended(kEndpoint, status);
  record_.End(status, answer_.get());
  answer_.reset();  // cancels what runs
}

bool EmbedCall::NextLocked() {
  if (planning_ || finish_called_) return false;
  if (!ending_ && answer_ != nullptr) {
    RunningAnswer::Update update = answer_->Take();
    if (!update.embedding.empty()) {
      GrantWish(wish_, update.embedding);
      response_.mutable_embedding()->Add(update.embedding.begin(), update.embedding.end());
      response_.mutable_usage()->set_prompt_tokens(answer_->prompt_tokens());
    }
    if (update.finished) EndLocked(update.status);
  }
  finish_called_ = ending_;
  return finish_called_;
}

// gRPC may call back at once.
void EmbedCall::FinishCall() {
  if (!end_status_.ok()) return Finish(ToGrpcStatus(end_status_));
  timer().Set(host().options.write_timeout);
  StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
}

void EmbedCall::OnCancel() {
  bool finish = false;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    EndLocked(absl::CancelledError("the call was cancelled"));
    finish = NextLocked();
  }
  if (finish) FinishCall();
}

void EmbedCall::OnDone() {
  const std::shared_ptr<Core> core = core_;
  {
    const std::lock_guard<std::mutex> lock(core->mutex);
    core->call = nullptr;
  }
  OneRequestCall::OnDone();
}

}  // namespace tandem
