#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/ingress/token_mailbox.h"
#include "gateway/ingress/token_text.h"
#include "gateway/schedule/engine.h"
#include "lib/text/tokenizer.h"

namespace tandem {

struct GenerationSpec {
  GenerationRequest request;       // max_tokens 0 without score_prompt asks the engine for nothing
  std::vector<std::string> stops;  // up to StopMatcher::kMaxStops
  bool echo = false;               // the prompt's text and tokens come first
  std::int32_t stop_token = -1;    // ends the answer as the end-of-sequence token does; -1: none
};

// One running answer: a request at the engine on one side, text and tokens on the other. HTTP and
// gRPC both use it. Start, Take and the destructor belong to one thread at a time.
class Generation {
 public:
  struct Update {
    std::string text;
    std::vector<ScoredToken> tokens;
    bool begun = false;  // the engine has answered: something came, or it finished
    bool finished = false;
    FinishReason reason = FinishReason::kError;  // kStop, kLength or kError
    absl::Status status;                         // why, for kError
  };

  // `tokenizer` and `engine` must live as long as the object. INVALID_ARGUMENT for bad stop
  // strings.
  static absl::StatusOr<std::unique_ptr<Generation>> Create(
      Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, GenerationSpec spec);
  // Cancels what still runs.
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Submits; once. `wake` is called, from any thread, when Take has something new; never after the
  // destructor. Errors are those of Engine::Submit, and then Start may be called again.
  absl::Status Start(std::function<void()> wake);
  bool started() const { return started_; }

  // What has come since the last call. After `finished`, nothing.
  Update Take();

  std::int32_t prompt_tokens() const { return prompt_tokens_; }
  // Tokens the engine made, those that a stop string cut off included; the end-of-sequence one not.
  std::int32_t completion_tokens() const { return completion_tokens_; }

 private:
  Generation(Engine& engine, std::shared_ptr<const Tokenizer> tokenizer, GenerationSpec spec,
             StopMatcher stops);
  void CancelEngine();
  void TakeTokens(std::vector<SampledToken> tokens, TokenText::Output& out, Update& update);

  Engine& engine_;
  GenerationSpec spec_;
  TokenText text_;
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
