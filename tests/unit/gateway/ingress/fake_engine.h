#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gateway/schedule/engine.h"
#include "lib/text/tokenizer.h"

namespace tandem {

// A small chat vocabulary: bytes, ASCII letters, and the words that the tests use.
std::shared_ptr<const Tokenizer> TestTokenizer();
// The id of a piece that must be there; U+2581 stands for a space.
std::int32_t Id(std::string_view piece);

// An engine whose answers the test writes: it waits for requests and gives them tokens by hand.
// Thread-safe. Waiting fails the process after a minute: a hang is a bug.
class FakeEngine final : public Engine {
 public:
  EngineLimits limits() const override { return limits_; }
  absl::Status Ready() const override;
  absl::StatusOr<std::uint64_t> Submit(GenerationRequest request,
                                       std::shared_ptr<GenerationSink> sink) override;
  void Cancel(std::uint64_t handle) override;

  void SetReady(absl::Status ready);
  // 512 without; before the first request.
  void SetContext(std::int32_t tokens) { limits_.context_tokens = tokens; }
  // An encoder with steps of so many tokens; before the first request.
  void SetEncoder(std::int32_t step_tokens) {
    limits_.encoder = true;
    limits_.step_tokens = step_tokens;
  }
  void SetQueue(std::size_t most);  // requests that may run or wait; more are RESOURCE_EXHAUSTED
  void RefuseWith(absl::Status status);

  // Handles count from 1 in the order of Submit. These wait for the request.
  GenerationRequest WaitForRequest(std::uint64_t handle);
  void WaitForCancel(std::uint64_t handle);
  std::size_t submitted() const;

  void Scores(std::uint64_t handle, std::vector<SampledToken> scores);
  void Pooled(std::uint64_t handle, std::vector<float> mean);
  void Token(std::uint64_t handle, SampledToken token);
  void Tokens(std::uint64_t handle, const std::vector<std::int32_t>& tokens);
  void Finish(std::uint64_t handle, FinishReason reason, absl::Status status = absl::OkStatus());

 private:
  struct Request {
    GenerationRequest request;
    std::shared_ptr<GenerationSink> sink;  // null once finished
    bool cancelled = false;
  };
  Request& WaitLocked(std::unique_lock<std::mutex>& lock, std::uint64_t handle);
  std::shared_ptr<GenerationSink> SinkOf(std::uint64_t handle);

  EngineLimits limits_ = {.context_tokens = 512,
                          .vocab_size = static_cast<std::int32_t>(TestTokenizer()->size()),
                          .hidden_size = 3};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Request>> requests_;
  absl::Status ready_;
  absl::Status refusal_;
  std::size_t most_ = 1000;
};

}  // namespace tandem
