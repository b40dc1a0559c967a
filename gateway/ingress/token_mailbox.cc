#include "gateway/ingress/token_mailbox.h"

#include <utility>

namespace tandem {

TokenMailbox::TokenMailbox(std::function<void()> wake) : wake_(std::move(wake)) {}

TokenMailbox::Mail TokenMailbox::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  announced_ = false;
  return std::exchange(mail_, Mail{});
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

void TokenMailbox::OnToken(const SampledToken& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (mail_.tokens.size() >= kMaxWaiting) {
    mail_.overflowed = true;
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

}  // namespace tandem
