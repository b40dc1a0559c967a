#include "gateway/ingress/grpc/generate_call.h"

#include <algorithm>
#include <utility>

#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/grpc/request_reader.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// Of one message, so that an echoed prompt with its log-probabilities stays under what clients
// take.
constexpr std::size_t kTokensPerMessage = 1024;
constexpr std::string_view kEndpoint = "grpc.Generate";

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

absl::StatusOr<AnswerSpec> PlanGenerate(const Serving& serving, const v1::GenerateRequest& from) {
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest request, ReadGenerateRequest(from));
  TANDEM_ASSIGN_OR_RETURN(std::vector<AnswerSpec> answers, PlanAnswers(serving, request));
  AnswerSpec& spec = answers.front();
  if (spec.echo) {
    TANDEM_RETURN_IF_ERROR(CheckEchoBytes(static_cast<std::int64_t>(spec.request.prompt.size()),
                                          spec.request.sampling.num_logprobs));
  }
  return std::move(spec);
}

GenerateCall::GenerateCall(CallHost& host, grpc::CallbackServerContext* context)
    : OneRequestCall(host, context, kMethod), record_(host, kEndpoint) {
  core_->call = this;
}

GenerateCall* GenerateCall::Start(CallHost& host, grpc::CallbackServerContext* context) {
  auto* call = new GenerateCall(host, context);
  const absl::Status admitted = call->record_.Admit(*context);
  if (admitted.ok()) {
    call->Receive();
  } else {
    call->End(admitted);
  }
  return call;
}

// Until the request is planned, nothing finishes the call, so it lives.
void GenerateCall::Received(const absl::Status& status) {
  if (!status.ok()) return End(status);
  if (!host().Work([this] { Plan(); })) End(absl::UnavailableError("too many requests at a time"));
}

void GenerateCall::Plan() {
  const auto plan = [this]() -> absl::StatusOr<AnswerSpec> {
    TANDEM_ASSIGN_OR_RETURN(serving_, host().backend.serving->Get());
    want_logprobs_ = request().has_logprobs();
    return PlanGenerate(*serving_, request());
  };
  absl::StatusOr<AnswerSpec> spec = plan();
  DropRequest();
  absl::Status status = spec.status();
  if (status.ok()) {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    if (!ending_) status = BeginLocked(*std::move(spec));
  }
  End(status);
}

absl::Status GenerateCall::BeginLocked(AnswerSpec spec) {
  record_.Name("gen-", serving_->model.id, &spec.request);
  TANDEM_ASSIGN_OR_RETURN(
      answer_,
      RunningAnswer::Create(*serving_->engine, serving_->model.tokenizer, std::move(spec)));
  const std::weak_ptr<Core> weak = core_;
  return answer_->Start([weak, &host = host()] {
    host.post([weak] {
      const std::shared_ptr<Core> core = weak.lock();
      if (core == nullptr) return;
      Action action = Action::kNone;
      GenerateCall* call = nullptr;
      {
        const std::lock_guard<std::mutex> lock(core->mutex);
        call = core->call;
        if (call != nullptr) action = call->NextLocked();
      }
      // A call with an action under way is not deleted: gRPC waits for the action's end.
      if (call != nullptr && action != Action::kNone) call->Perform(action);
    });
  });
}

// The request is as good as planned; an error ends the call.
void GenerateCall::End(const absl::Status& status) {
  Action action = Action::kNone;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    planning_ = false;
    if (!status.ok()) EndLocked(status);
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::Pump() {
  Action action = Action::kNone;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::EndLocked(const absl::Status& status) {
  if (ending_) return;
  ending_ = true;
  end_status_ = status;
  Ended(kEndpoint, status);
  record_.End(status, answer_.get());
  answer_.reset();  // cancels what runs
}

// A part of the update; whether it was the last one.
bool GenerateCall::FillLocked() {
  RunningAnswer::Update& update = *update_;
  response_.Clear();
  response_.set_id(record_.id());
  if (sent_ == 0) {
    response_.set_text(std::move(update.text));
    for (ToolCallDelta& delta : update.tool_calls) {
      v1::ToolCall& call = *response_.add_tool_calls();
      call.set_index(delta.index);
      call.set_id(std::move(delta.id));
      call.set_name(std::move(delta.name));
      call.set_arguments(std::move(delta.arguments));
    }
  }
  const std::size_t end = std::min(update.tokens.size(), sent_ + kTokensPerMessage);
  for (; sent_ < end; ++sent_) {
    const ScoredToken& token = update.tokens[sent_];
    response_.add_tokens(token.token);
    if (want_logprobs_) {
      FillTokenInfo(*serving_->model.tokenizer, token, *response_.add_logprobs());
    }
  }
  if (end < update.tokens.size()) return false;
  if (!update.finished) return true;
  const std::string_view stop = update.calls_complete ? "tool_calls" : "stop";
  response_.set_finish_reason(std::string(update.reason == FinishReason::kStop ? stop : "length"));
  response_.mutable_usage()->set_prompt_tokens(answer_->prompt_tokens());
  response_.mutable_usage()->set_completion_tokens(answer_->completion_tokens());
  return true;
}

GenerateCall::Action GenerateCall::NextLocked() {
  if (planning_ || finish_called_) return Action::kNone;
  if (writing_) {
    // Nobody reads, and what waits has reached its bound.
    if (answer_ == nullptr || !answer_->overflowed()) return Action::kNone;
    EndLocked(ReadTooSlowly());
    return Action::kCancel;
  }
  if (ending_) {
    finish_called_ = true;
    return Action::kFinish;
  }
  if (answer_ == nullptr) return Action::kNone;
  if (!update_.has_value()) {
    RunningAnswer::Update update = answer_->Take();
    if (update.begun && !std::exchange(begun_, true)) record_.FirstToken();
    if (!update.status.ok()) {
      EndLocked(update.status);
      finish_called_ = true;
      return Action::kFinish;
    }
    const bool nothing = update.text.empty() && update.tokens.empty() && update.tool_calls.empty();
    if (!update.finished && nothing) return Action::kNone;
    update_ = std::move(update);
    sent_ = 0;
  }
  const bool finished = update_->finished;
  const bool whole = FillLocked();
  if (whole) update_.reset();
  if (whole && finished) {
    EndLocked(absl::OkStatus());
    finish_called_ = true;
    return Action::kWriteLast;
  }
  writing_ = true;
  return Action::kWrite;
}

// Outside the lock: gRPC may call back at once.
void GenerateCall::Perform(Action action) {
  switch (action) {
    case Action::kNone:
      return;
    case Action::kCancel:
      return timer().Cancel();
    case Action::kWrite:
      timer().Set(host().options.write_timeout);
      return StartWrite(&response_);
    case Action::kWriteLast:
      timer().Set(host().options.write_timeout);
      return StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
    case Action::kFinish:
      return Finish(ToGrpcStatus(end_status_));
  }
}

void GenerateCall::OnWriteDone(bool ok) {
  timer().Clear();
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    writing_ = false;
    if (!ok) EndLocked(absl::CancelledError("the client has left"));
  }
  Pump();
}

void GenerateCall::OnCancel() {
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    EndLocked(absl::CancelledError("the call was cancelled"));
  }
  Pump();
}

void GenerateCall::OnDone() {
  const std::shared_ptr<Core> core = core_;
  {
    const std::lock_guard<std::mutex> lock(core->mutex);
    core->call = nullptr;
  }
  OneRequestCall::OnDone();
}

}  // namespace tandem
