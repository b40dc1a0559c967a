#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "gateway/schedule/engine.h"
#include "lib/sample/sampler.h"

namespace tandem {

// What goes out of the scheduler and what comes back: plain data. proto/tandem/v1/worker.proto has
// the same fields and says what each means to a worker; gateway/dispatch/step_wire.h carries them
// over.

// A sequence takes a slot; its block tables begin empty.
struct SequenceStart {
  std::int32_t slot = 0;
  SamplingParams sampling;
  std::vector<std::int32_t> generated;  // before a replay, for the penalties
};

// Tokens at positions first_position, first_position + 1, ... of the sequence in `slot`.
struct SequenceShare {
  std::int32_t slot = 0;
  std::int32_t first_position = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> new_global_blocks;
  std::vector<std::int32_t> new_window_blocks;
  std::int32_t window_blocks_left = 0;
  bool sample = false;
  bool score = false;
  std::int32_t next_token = -1;
};

struct StepPlan {
  std::uint64_t step_id = 0;       // 1, 2, ... since the last Reset
  std::vector<std::int32_t> ends;  // slots released before this step, ascending
  // slots taken before this step (perhaps ones that `ends` released)
  std::vector<SequenceStart> starts;
  std::vector<SequenceShare> sequences;  // at least one
  std::int32_t decode_tokens = 0;        // shares of one token that sample
  std::int32_t prefill_tokens = 0;       // all others
};

struct SequenceResult {
  std::int32_t slot = 0;
  std::optional<SampledToken> sampled;  // there when `sample` was asked for
  // entry i: the token after the share's i-th; one less than tokens when next_token is -1
  std::vector<SampledToken> scored;
};

struct StepResult {
  std::uint64_t step_id = 0;
  std::vector<SequenceResult> sequences;  // any order
};

// What happened to a request. For one request: kPromptScores at most once and first, kToken any
// number of times, kFinish once and last.
struct RequestEvent {
  enum class Kind : std::uint8_t { kPromptScores, kToken, kFinish };
  std::uint64_t request = 0;
  Kind kind = Kind::kToken;
  std::vector<SampledToken> scores;           // kPromptScores
  SampledToken token;                         // kToken
  FinishReason reason = FinishReason::kStop;  // kFinish
  absl::Status status;                        // kFinish: not OK with kError
};

}  // namespace tandem
