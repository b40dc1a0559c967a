#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "gateway/schedule/engine.h"

namespace tandem {

// Takes what the engine produces for one request over to the thread that answers it. The engine's
// side never blocks; what waits is bounded: a reader that falls kMaxWaiting tokens behind loses the
// request, not the gateway its memory. Thread-safe.
class TokenMailbox final : public GenerationSink {
 public:
  static constexpr std::size_t kMaxWaiting = 8192;

  struct Mail {
    std::optional<std::vector<SampledToken>> prompt_scores;
    std::vector<SampledToken> tokens;
    bool finished = false;
    FinishReason reason = FinishReason::kError;
    absl::Status status;      // why it failed; OK otherwise
    bool overflowed = false;  // tokens were lost: the request cannot go on
  };

  // `wake` is called, perhaps from an engine thread and under a lock, whenever there is mail where
  // there was none: it must only pass the news on.
  explicit TokenMailbox(std::function<void()> wake);

  // All that has come since the last Take.
  Mail Take();
  // `wake` is not called any more once this returns.
  void Mute();

  void OnPromptScores(std::vector<SampledToken> scores) override;
  void OnToken(const SampledToken& token) override;
  void OnFinish(FinishReason reason, const absl::Status& status) override;

 private:
  void WakeLocked();

  std::mutex mutex_;
  std::function<void()> wake_;
  Mail mail_;
  bool announced_ = false;  // woken, and not taken since
};

}  // namespace tandem
