#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/answer/answer_format.h"
#include "gateway/ingress/answer/token_text.h"
#include "gateway/ingress/answer/tool_call_parser.h"
#include "gateway/schedule/engine.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// Takes what the engine produces for one request over to the thread that answers it. The engine's
// side never blocks; what waits is bounded: a reader that falls kMaxWaiting tokens behind loses the
// request, not the gateway its memory. Thread-safe.
class TokenMailbox final : public GenerationSink {
 public:
  static constexpr std::size_t kMaxWaiting = 8192;

  struct Mail {
    std::optional<std::vector<SampledToken>> prompt_scores;
    std::optional<std::vector<float>> pooled;
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
  // Tokens were lost since the last Take.
  bool overflowed() const;
  // `wake` is not called any more once this returns.
  void Mute();

  void OnPromptScores(std::vector<SampledToken> scores) override;
  void OnPooled(std::vector<float> mean) override;
  void OnToken(const SampledToken& token) override;
  void OnFinish(FinishReason reason, const absl::Status& status) override;

 private:
  void WakeLocked();

  mutable std::mutex mutex_;
  std::function<void()> wake_;
  Mail mail_;
  bool announced_ = false;  // woken, and not taken since
};

// Of an answer whose reader fell kMaxWaiting tokens behind.
absl::Status ReadTooSlowly();

struct AnswerSpec {
  // max_tokens 0 without score_prompt or pool_prompt asks the engine for nothing
  GenerationRequest request;
  // Up to StopMatcher::kMaxStops. One that is the name of a special token ("<end_of_turn>") stops
  // at that token too, whose name is no part of the text.
  std::vector<std::string> stops;
  bool echo = false;             // the prompt's text and tokens come first
  std::int32_t stop_token = -1;  // ends the answer as the end-of-sequence token does; -1: none
  // What begins the ids of the calls in it; without it calls are text.
  std::optional<std::string> call_id_prefix;
};

// A request at the engine on one side, text and tokens on the other. HTTP and gRPC both use it.
// Start, Take and the destructor belong to one thread at a time.
class RunningAnswer {
 public:
  struct Update {
    std::string text;
    std::vector<ScoredToken> tokens;
    std::vector<ToolCallDelta> tool_calls;
    bool called = false;           // the answer is calls; what `tokens` spell is no text
    std::vector<float> embedding;  // where pool_prompt was asked for; once
    bool begun = false;            // the engine has answered: something came, or it finished
    bool finished = false;
    FinishReason reason = FinishReason::kError;  // kStop, kLength or kError
    bool calls_complete = false;                 // with kStop: it ended behind a call
    absl::Status status;                         // why, for kError
    std::string stop;                            // the stop string that ended it, or ""
  };

  // `tokenizer` and `engine` must live as long as the object. INVALID_ARGUMENT for bad stop
  // strings.
  static absl::StatusOr<std::unique_ptr<RunningAnswer>> Create(
      Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, AnswerSpec spec);
  // Cancels what still runs.
  ~RunningAnswer();
  RunningAnswer(const RunningAnswer&) = delete;
  RunningAnswer& operator=(const RunningAnswer&) = delete;

  // Submits; once. `wake` is called, from any thread, when Take has something new; never after the
  // destructor. Errors are those of Engine::Submit, and then Start may be called again.
  absl::Status Start(std::function<void()> wake);
  bool started() const { return started_; }

  // What has come since the last call. After `finished`, nothing.
  Update Take();
  // So much waits for a Take that tokens were lost: the answer can only end.
  bool overflowed() const { return mailbox_ != nullptr && mailbox_->overflowed(); }

  std::int32_t prompt_tokens() const { return prompt_tokens_; }
  // Tokens the engine made, those that a stop string cut off included; the end-of-sequence one not.
  std::int32_t completion_tokens() const { return completion_tokens_; }

 private:
  RunningAnswer(Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, AnswerSpec spec,
                StopMatcher stops);
  void CancelEngine();
  bool Ends(std::int32_t token, std::string& stop) const;
  // Takes the calls out of the update's text.
  void FindCalls(Update& update);
  void TakeTokens(std::vector<SampledToken> tokens, TokenText::Output& out, Update& update);

  Engine& engine_;
  AnswerSpec spec_;
  // Ids of stops that name special tokens, and which stop each one is.
  std::map<std::int32_t, std::size_t> stop_ids_;
  TokenText text_;
  std::optional<ToolCallParser> calls_;
  // Of text that may become a call.
  std::vector<ScoredToken> undecided_;
  std::shared_ptr<TokenMailbox> mailbox_;
  std::uint64_t handle_ = 0;
  bool started_ = false;
  bool engine_running_ = false;
  bool echo_due_ = false;
  bool finished_ = false;
  std::int32_t prompt_tokens_ = 0;
  std::int32_t completion_tokens_ = 0;
};

}  // namespace tandem
