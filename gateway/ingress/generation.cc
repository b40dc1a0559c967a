#include "gateway/ingress/generation.h"

#include <utility>

#include "lib/base/status_macros.h"

namespace tandem {

absl::StatusOr<std::unique_ptr<Generation>> Generation::Create(
    Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, GenerationSpec spec) {
  TANDEM_ASSIGN_OR_RETURN(StopMatcher stops, StopMatcher::Create(spec.stops));
  return std::unique_ptr<Generation>(
      new Generation(engine, std::move(tokenizer), std::move(spec), std::move(stops)));
}

Generation::Generation(Engine& engine, std::shared_ptr<const Tokenizer> tokenizer,
                       GenerationSpec spec, StopMatcher stops)
    : engine_(engine),
      spec_(std::move(spec)),
      text_(std::move(tokenizer), std::move(stops)),
      echo_due_(spec_.echo),
      prompt_tokens_(static_cast<std::int32_t>(spec_.request.prompt.size())) {}

Generation::~Generation() {
  if (mailbox_ != nullptr) mailbox_->Mute();
  CancelEngine();
}

void Generation::CancelEngine() {
  if (std::exchange(engine_running_, false)) engine_.Cancel(handle_);
}

absl::Status Generation::Start(std::function<void()> wake) {
  TANDEM_CHECK(!started_);
  mailbox_ = std::make_shared<TokenMailbox>(std::move(wake));
  if (spec_.request.max_tokens == 0 && !spec_.request.score_prompt) {
    started_ = true;
    mailbox_->OnFinish(FinishReason::kLength, absl::OkStatus());
    return absl::OkStatus();
  }
  absl::StatusOr<std::uint64_t> handle = engine_.Submit(spec_.request, mailbox_);
  if (!handle.ok()) {
    mailbox_->Mute();
    return handle.status();
  }
  if (!spec_.echo) spec_.request.prompt = {};
  handle_ = *handle;
  started_ = true;
  engine_running_ = true;
  return absl::OkStatus();
}

void Generation::TakeTokens(std::vector<SampledToken> tokens, TokenText::Output& out,
                            Update& update) {
  for (SampledToken& token : tokens) {
    if (token.token == spec_.stop_token && !spec_.request.ignore_eos) {
      text_.Finish(out);
      update.finished = true;
    } else {
      ++completion_tokens_;
      text_.Append(std::move(token), out);
      update.finished = text_.stopped();
    }
    if (update.finished) {
      update.reason = FinishReason::kStop;
      CancelEngine();
      return;
    }
  }
}

Generation::Update Generation::Take() {
  Update update;
  if (finished_ || mailbox_ == nullptr) return update;
  TokenMailbox::Mail mail = mailbox_->Take();
  TokenText::Output out;
  update.begun = mail.finished || !mail.tokens.empty() || mail.prompt_scores.has_value();
  if (mail.finished) engine_running_ = false;
  const bool failed =
      mail.finished && mail.reason != FinishReason::kStop && mail.reason != FinishReason::kLength;
  if (update.begun && echo_due_ && !failed) {
    echo_due_ = false;
    text_.Echo(spec_.request.prompt,
               std::move(mail.prompt_scores).value_or(std::vector<SampledToken>()), out);
  }
  TakeTokens(std::move(mail.tokens), out, update);
  if (!update.finished && mail.overflowed) {
    update.finished = true;
    update.status = absl::ResourceExhaustedError("the answer was read too slowly and was cut off");
    CancelEngine();
  } else if (!update.finished && mail.finished) {
    update.finished = true;
    update.reason = failed ? FinishReason::kError : mail.reason;
    if (!failed) {
      text_.Finish(out);
      if (text_.stopped()) update.reason = FinishReason::kStop;
    } else {
      update.status = mail.status.ok() ? absl::CancelledError("the request was cancelled")
                                       : std::move(mail.status);
    }
  }
  finished_ = update.finished;
  update.text = std::move(out.text);
  update.tokens = std::move(out.tokens);
  return update;
}

}  // namespace tandem
