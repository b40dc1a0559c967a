#include "gateway/ingress/grpc/generate_call.h"

#include <algorithm>
#include <utility>

#include "gateway/ingress/answer_plan.h"
#include "gateway/ingress/openai/error.h"
#include "gateway/ingress/openai/sampling_rules.h"
#include "lib/base/status_macros.h"
#include "lib/text/chat_template.h"

namespace tandem {
namespace {

// Of one message, so that an echoed prompt with its log-probabilities stays under what clients
// take.
constexpr std::size_t kTokensPerMessage = 1024;
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

absl::StatusOr<AnswerOptions> OptionsOf(const v1::GenerateRequest& request) {
  SamplingWishes wishes;
  if (request.has_temperature()) wishes.temperature = request.temperature();
  if (request.has_top_p()) wishes.top_p = request.top_p();
  if (request.has_top_k()) wishes.top_k = request.top_k();
  if (request.has_min_p()) wishes.min_p = request.min_p();
  wishes.frequency_penalty = request.frequency_penalty();
  wishes.presence_penalty = request.presence_penalty();
  wishes.logit_bias.assign(request.logit_bias().begin(), request.logit_bias().end());
  AnswerOptions options;
  TANDEM_ASSIGN_OR_RETURN(options.sampling, CheckedSampling(wishes));
  options.sampling.seed = request.has_seed() ? request.seed() : RandomSeed();
  if (request.has_logprobs()) {
    TANDEM_ASSIGN_OR_RETURN(options.sampling.num_logprobs,
                            CheckedLogprobs("logprobs", request.logprobs()));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::int32_t max_tokens,
                          CheckedMaxTokens("max_tokens", request.max_tokens(), 0));
  if (max_tokens > 0) options.max_tokens = max_tokens;
  options.stops.assign(request.stop().begin(), request.stop().end());
  TANDEM_RETURN_IF_ERROR(CheckStops(options.stops));
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

absl::StatusOr<AnswerSpec> PlanGenerate(const Serving& serving,
                                        const v1::GenerateRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckModelName(serving, request.model()));
  TANDEM_ASSIGN_OR_RETURN(const AnswerOptions options, OptionsOf(request));
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
    case v1::GenerateRequest::kText: {
      field = "text";
      TANDEM_ASSIGN_OR_RETURN(ids, TextPromptIds(serving, field, request.text()));
      break;
    }
    case v1::GenerateRequest::kTokens:
      field = "tokens";
      ids.assign(request.tokens().ids().begin(), request.tokens().ids().end());
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return InvalidField("prompt", "'prompt': expected chat, text or tokens, found nothing");
  }
  TANDEM_ASSIGN_OR_RETURN(AnswerSpec spec, PlanAnswer(serving, field, std::move(ids), options));
  if (spec.echo) {
    TANDEM_RETURN_IF_ERROR(CheckEchoBytes(static_cast<std::int64_t>(spec.request.prompt.size()),
                                          spec.request.sampling.num_logprobs));
  }
  spec.stop_token = stop_token;
  return spec;
}

GenerateCall::GenerateCall(CallHost& host, grpc::CallbackServerContext* context)
    : OneRequestCall(host, context) {
  core_->call = this;
}

GenerateCall* GenerateCall::Start(CallHost& host, grpc::CallbackServerContext* context) {
  auto* call = new GenerateCall(host, context);
  absl::StatusOr<KeyUse> key = host.Admit(*context);
  if (key.ok()) {
    call->key_ = *std::move(key);
    call->Receive();
  } else {
    call->End(key.status());
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
    return PlanGenerate(*serving_, request());
  };
  absl::StatusOr<AnswerSpec> spec = plan();
  absl::Status status = spec.status();
  if (status.ok()) {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    if (!ending_) status = BeginLocked(*std::move(spec));
  }
  End(status);
}

absl::Status GenerateCall::BeginLocked(AnswerSpec spec) {
  id_ = RandomId("gen-");
  spec.request.id = id_;
  want_logprobs_ = request().has_logprobs();
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
  IngressMetrics& metrics = *host().backend.metrics;
  const std::string_view code = GrpcCodeName(ToGrpcStatus(status).error_code());
  metrics.CountRequest(kEndpoint, code);
  if (answer_ != nullptr) {
    metrics.ObserveDuration(kEndpoint, serving_->model.id, status.ok() ? "" : code,
                            SecondsSince(begin_));
    metrics.CountTokens(answer_->prompt_tokens(), answer_->completion_tokens());
    key_.Charge(answer_->prompt_tokens() + answer_->completion_tokens());
    if (status.ok() && answer_->completion_tokens() > 1) {
      metrics.ObserveOutputTokens(kEndpoint, serving_->model.id, SecondsSince(first_token_),
                                  answer_->completion_tokens() - 1);
    }
  }
  answer_.reset();  // cancels what runs
}

// A part of the update; whether it was the last one.
bool GenerateCall::FillLocked() {
  RunningAnswer::Update& update = *update_;
  response_.Clear();
  response_.set_id(id_);
  if (sent_ == 0) response_.set_text(std::move(update.text));
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
  response_.set_finish_reason(update.reason == FinishReason::kStop ? "stop" : "length");
  response_.mutable_usage()->set_prompt_tokens(answer_->prompt_tokens());
  response_.mutable_usage()->set_completion_tokens(answer_->completion_tokens());
  return true;
}

GenerateCall::Action GenerateCall::NextLocked() {
  if (planning_ || finish_called_) return Action::kNone;
  if (writing_) {
    // Nobody reads, and what waits has reached its bound.
    if (answer_ == nullptr || !answer_->overflowed()) return Action::kNone;
    EndLocked(absl::ResourceExhaustedError("the answer was read too slowly and was cut off"));
    return Action::kCancel;
  }
  if (ending_) {
    finish_called_ = true;
    return Action::kFinish;
  }
  if (answer_ == nullptr) return Action::kNone;
  if (!update_.has_value()) {
    RunningAnswer::Update update = answer_->Take();
    if (update.begun && !std::exchange(begun_, true)) {
      first_token_ = std::chrono::steady_clock::now();
      host().backend.metrics->ObserveFirstToken(kEndpoint, serving_->model.id,
                                                SecondsSince(begin_));
    }
    if (!update.status.ok()) {
      EndLocked(update.status);
      finish_called_ = true;
      return Action::kFinish;
    }
    if (!update.finished && update.text.empty() && update.tokens.empty()) return Action::kNone;
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
