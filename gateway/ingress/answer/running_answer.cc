#include "gateway/ingress/answer/running_answer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// The ids of those stops that are the names of special tokens, and which stop each one is.
std::map<std::int32_t, std::size_t> SpecialStops(const Tokenizer& tokenizer,
                                                 const std::vector<std::string>& stops) {
  std::map<std::int32_t, std::size_t> ids;
  for (std::size_t i = 0; i < stops.size(); ++i) {
    const std::int32_t id = tokenizer.IdOf(stops[i]);
    if (id == kNoPiece) continue;
    const Piece& piece = tokenizer.vocabulary().pieces[static_cast<std::size_t>(id)];
    if (piece.special || piece.type == PieceType::kControl) ids.emplace(id, i);
  }
  return ids;
}

}  // namespace

absl::Status ReadTooSlowly() {
  return WithRejectionReason(
      absl::ResourceExhaustedError("the answer was read too slowly and was cut off"),
      "slow_reader");
}

TokenMailbox::TokenMailbox(std::function<void()> wake) : wake_(std::move(wake)) {}

TokenMailbox::Mail TokenMailbox::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  announced_ = false;
  return std::exchange(mail_, Mail{});
}

bool TokenMailbox::overflowed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return mail_.overflowed;
}

void TokenMailbox::Mute() {
  const std::lock_guard<std::mutex> lock(mutex_);
  wake_ = nullptr;
}

void TokenMailbox::WakeLocked() {
  if (announced_) return;
  announced_ = true;
  if (wake_) wake_();
}

void TokenMailbox::OnPromptScores(std::vector<SampledToken> scores) {
  const std::lock_guard<std::mutex> lock(mutex_);
  mail_.prompt_scores = std::move(scores);
  WakeLocked();
}

void TokenMailbox::OnPooled(std::vector<float> mean) {
  const std::lock_guard<std::mutex> lock(mutex_);
  mail_.pooled = std::move(mean);
  WakeLocked();
}

void TokenMailbox::OnToken(const SampledToken& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (mail_.tokens.size() >= kMaxWaiting) {
    // News in itself: whoever was woken before has not come.
    if (!std::exchange(mail_.overflowed, true)) announced_ = false;
  } else {
    mail_.tokens.push_back(token);
  }
  WakeLocked();
}

void TokenMailbox::OnFinish(FinishReason reason, const absl::Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  mail_.finished = true;
  mail_.reason = reason;
  mail_.status = status;
  WakeLocked();
}

absl::StatusOr<std::unique_ptr<RunningAnswer>> RunningAnswer::Create(
    Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, AnswerSpec spec) {
  TANDEM_ASSIGN_OR_RETURN(StopMatcher stops, StopMatcher::Create(spec.stops));
  return std::unique_ptr<RunningAnswer>(
      new RunningAnswer(engine, std::move(tokenizer), std::move(spec), std::move(stops)));
}

RunningAnswer::RunningAnswer(Engine& engine, std::shared_ptr<const Tokenizer> tokenizer,
                             AnswerSpec spec, StopMatcher stops)
    : engine_(engine),
      spec_(std::move(spec)),
      stop_ids_(SpecialStops(*tokenizer, spec_.stops)),
      text_(std::move(tokenizer), std::move(stops)),
      echo_due_(spec_.echo),
      prompt_tokens_(static_cast<std::int32_t>(spec_.request.prompt.size())) {
  if (spec_.call_id_prefix.has_value()) calls_.emplace(*spec_.call_id_prefix);
}

RunningAnswer::~RunningAnswer() {
  if (mailbox_ != nullptr) mailbox_->Mute();
  CancelEngine();
}

void RunningAnswer::CancelEngine() {
  if (std::exchange(engine_running_, false)) engine_.Cancel(handle_);
}

absl::Status RunningAnswer::Start(std::function<void()> wake) {
  TANDEM_CHECK(!started_);
  mailbox_ = std::make_shared<TokenMailbox>(std::move(wake));
  const GenerationRequest& request = spec_.request;
  if (request.max_tokens == 0 && !request.score_prompt && !request.pool_prompt) {
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

bool RunningAnswer::Ends(std::int32_t token, std::string& stop) const {
  if (token == spec_.stop_token && !spec_.request.ignore_eos) return true;
  const auto named = stop_ids_.find(token);
  if (named == stop_ids_.end()) return false;
  stop = spec_.stops[named->second];
  return true;
}

void RunningAnswer::TakeTokens(std::vector<SampledToken> tokens, TokenText::Output& out,
                               Update& update) {
  for (SampledToken& token : tokens) {
    if (Ends(token.token, update.stop)) {
      text_.Finish(out);
      update.finished = true;
    } else {
      ++completion_tokens_;
      text_.Append(std::move(token), out);
      update.finished = text_.stopped();
    }
    if (update.finished) {
      update.reason = FinishReason::kStop;
      if (text_.stopped()) update.stop = spec_.stops[static_cast<std::size_t>(text_.stop())];
      CancelEngine();
      return;
    }
  }
}

RunningAnswer::Update RunningAnswer::Take() {
  Update update;
  if (finished_ || mailbox_ == nullptr) return update;
  TokenMailbox::Mail mail = mailbox_->Take();
  TokenText::Output out;
  update.begun = mail.finished || !mail.tokens.empty() || mail.prompt_scores.has_value() ||
                 mail.pooled.has_value();
  if (mail.pooled.has_value()) update.embedding = *std::move(mail.pooled);
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
    update.status = ReadTooSlowly();
    CancelEngine();
  } else if (!update.finished && mail.finished) {
    update.finished = true;
    update.reason = failed ? FinishReason::kError : mail.reason;
    if (!failed) {
      text_.Finish(out);
      if (text_.stopped()) {
        update.reason = FinishReason::kStop;
        update.stop = spec_.stops[static_cast<std::size_t>(text_.stop())];
      }
    } else {
      update.status = mail.status.ok() ? absl::CancelledError("the request was cancelled")
                                       : std::move(mail.status);
    }
  }
  finished_ = update.finished;
  update.text = std::move(out.text);
  update.tokens = std::move(out.tokens);
  if (calls_.has_value()) FindCalls(update);
  return update;
}

void RunningAnswer::FindCalls(Update& update) {
  ToolCallParser::Output found = calls_->Feed(update.text);
  if (update.finished) found.text.append(calls_->Finish().text);
  update.text = std::move(found.text);
  update.tool_calls = std::move(found.calls);
  update.called = calls_->called();
  update.calls_complete = calls_->complete();
  undecided_.insert(undecided_.end(), std::make_move_iterator(update.tokens.begin()),
                    std::make_move_iterator(update.tokens.end()));
  update.tokens.clear();
  if (update.finished || !calls_->undecided()) update.tokens = std::exchange(undecided_, {});
}

}  // namespace tandem
