#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/sample/sampler.h"

namespace tandem {

// The seam between the public ports (gateway/ingress) and the cluster (gateway/dispatch): tokens
// in, tokens out. Text, stop strings and JSON stay on the ingress side; slots, blocks and workers
// on the other.

enum class FinishReason : std::uint8_t { kStop, kLength, kCancelled, kError };

struct GenerationRequest {
  // For logs; unique.
  std::string id;
  // At least one token, bos included where wanted.
  std::vector<std::int32_t> prompt;
  SamplingParams sampling;
  // >= 0; 0 only together with score_prompt or pool_prompt. prompt + max_tokens must fit the
  // context
  std::int32_t max_tokens = 0;
  // log-probabilities of prompt tokens 1.. (sampling.num_logprobs best beside them)
  bool score_prompt = false;
  // the mean of the prompt's final hidden states
  bool pool_prompt = false;
  // End-of-sequence tokens do not end it.
  bool ignore_eos = false;
  // W3C traceparent of the span below which it is traced; empty: it is not.
  std::string trace_parent = {};
};

// Receives what a request produces. Called from an engine thread, never two calls at a time for one
// request, never after OnFinish. Must not block.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // Once, before the first OnToken, when score_prompt was set: entry i belongs to prompt token i
  // + 1.
  virtual void OnPromptScores(std::vector<SampledToken> scores) = 0;
  // Once, before the first OnToken, when pool_prompt was set: (hidden), the mean over the prompt's
  // tokens of the hidden states behind the final norm.
  virtual void OnPooled(std::vector<float> mean) = 0;
  // In order. The end-of-sequence token that ended the request is not delivered (it counts in the
  // usage as a completion token does not).
  virtual void OnToken(const SampledToken& token) = 0;
  // Exactly once. kError: `status` says what happened (UNAVAILABLE: the cluster went away and did
  // not come back in time).
  virtual void OnFinish(FinishReason reason, const absl::Status& status) = 0;
};

struct EngineLimits {
  // Prompt and completion together.
  std::int32_t context_tokens = 0;
  std::int32_t vocab_size = 0;
  // Values of a hidden state.
  std::int32_t hidden_size = 0;
  // It embeds and generates nothing; a prompt has at most step_tokens, too.
  bool encoder = false;
  // Of one step.
  std::int32_t step_tokens = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual EngineLimits limits() const = 0;
  // OK when the cluster can serve now; else UNAVAILABLE with the reason. Cheap: /readyz asks it.
  virtual absl::Status Ready() const = 0;
  // Queues a request. RESOURCE_EXHAUSTED when the queue is full, INVALID_ARGUMENT when it cannot
  // ever run, UNAVAILABLE while the cluster has failed for good. The sink is kept until OnFinish.
  // Returns a handle for Cancel. Any thread.
  virtual absl::StatusOr<std::uint64_t> Submit(GenerationRequest request,
                                               std::shared_ptr<GenerationSink> sink) = 0;
  // Frees the request's slot and blocks within a step; OnFinish(kCancelled) follows unless it has
  // finished. Any thread.
  virtual void Cancel(std::uint64_t handle) = 0;
};

}  // namespace tandem
