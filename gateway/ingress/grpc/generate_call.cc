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
    : EngineCall(host, context, {kMethod, "grpc.Generate", "gen-"}) {}

GenerateCall* GenerateCall::Start(CallHost& host, grpc::CallbackServerContext* context) {
  auto* call = new GenerateCall(host, context);
  call->Admit(*context);
  return call;
}

absl::StatusOr<AnswerSpec> GenerateCall::Plan(const Serving& serving) {
  want_logprobs_ = request().has_logprobs();
  return PlanGenerate(serving, request());
}

// A part of the update; whether it was the last one.
bool GenerateCall::FillLocked() {
  RunningAnswer::Update& update = *update_;
  response().Clear();
  response().set_id(record().id());
  if (sent_ == 0) {
    response().set_text(std::move(update.text));
    for (ToolCallDelta& delta : update.tool_calls) {
      v1::ToolCall& call = *response().add_tool_calls();
      call.set_index(delta.index);
      call.set_id(std::move(delta.id));
      call.set_name(std::move(delta.name));
      call.set_arguments(std::move(delta.arguments));
    }
  }
  const std::size_t end = std::min(update.tokens.size(), sent_ + kTokensPerMessage);
  for (; sent_ < end; ++sent_) {
    const ScoredToken& token = update.tokens[sent_];
    response().add_tokens(token.token);
    if (want_logprobs_) {
      FillTokenInfo(*serving().model.tokenizer, token, *response().add_logprobs());
    }
  }
  if (end < update.tokens.size()) return false;
  if (!update.finished) return true;
  const std::string_view stop = update.calls_complete ? "tool_calls" : "stop";
  response().set_finish_reason(std::string(update.reason == FinishReason::kStop ? stop : "length"));
  response().mutable_usage()->set_prompt_tokens(answer()->prompt_tokens());
  response().mutable_usage()->set_completion_tokens(answer()->completion_tokens());
  return true;
}

GenerateCall::Action GenerateCall::NextLocked() {
  if (writing_) {
    // Nobody reads, and what waits has reached its bound.
    if (answer() == nullptr || !answer()->overflowed()) return Action::kNone;
    EndLocked(ReadTooSlowly());
    return Action::kCancel;
  }
  if (ending()) return Action::kFinish;
  if (answer() == nullptr) return Action::kNone;
  if (!update_.has_value()) {
    RunningAnswer::Update update = answer()->Take();
    if (update.begun && !std::exchange(begun_, true)) record().FirstToken();
    if (!update.status.ok()) {
      EndLocked(update.status);
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
    return Action::kWriteLast;
  }
  writing_ = true;
  return Action::kWrite;
}

void GenerateCall::OnWriteDone(bool ok) {
  timer().Clear();
  Step([&] {
    writing_ = false;
    if (!ok) EndLocked(absl::CancelledError("the client has left"));
  });
}

}  // namespace tandem
