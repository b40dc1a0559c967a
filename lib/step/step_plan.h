#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lib/sample/sampler.h"

namespace tandem {

// What the gateway asks of every worker of a plan for one step, and what comes back: plain data.
// The scheduler makes it, a worker's slot table checks and applies it, lib/wire/step_wire.h carries
// it over the wire (proto/tandem/v1/worker.proto has the same fields).

// A token that stands for "what was sampled last for this slot": the step that samples it may still
// run when this one is sent.
inline constexpr std::int32_t kSampledToken = -1;

// Most tokens that one result names as known ahead (SequenceResult::forced).
inline constexpr std::int32_t kMaxForcedTokens = 32;

// A sequence takes a slot; its block tables begin empty.
struct SequenceStart {
  std::int32_t slot = 0;
  SamplingParams sampling;
  // Tokens generated before (a replay), for the penalties.
  std::vector<std::int32_t> generated;
};

// Tokens at positions first_position, first_position + 1, ... of the sequence in `slot`.
struct SequenceShare {
  std::int32_t slot = 0;
  std::int32_t first_position = 0;
  // Vocabulary ids; the first one may be kSampledToken. Behind a sampled token stand those that a
  // result named as forced.
  std::vector<std::int32_t> tokens;
  // Appended to the slot's block tables.
  std::vector<std::int32_t> new_global_blocks;
  std::vector<std::int32_t> new_window_blocks;
  // That many leading entries of the window table have left the window: their blocks belong to
  // others now.
  std::int32_t window_blocks_left = 0;
  // The head samples after the last token.
  bool sample = false;
  // The head scores: row i gives the log-probability of the token after the share's i-th.
  // `next_token` stands after the last one; -1 when nothing does, and that row is then not scored.
  bool score = false;
  std::int32_t next_token = -1;
  // The head sums the final hidden states of the share's tokens.
  bool pool = false;
  // For traces, not on the wire: the request's id at the scheduler.
  std::uint64_t request = 0;
};

// A step has 1 to this many micro-batches.
inline constexpr std::int32_t kMaxMicroBatches = 8;

struct StepPlan {
  // 1, 2, ... within a generation.
  std::uint64_t step_id = 0;
  std::uint64_t generation = 0;
  // Slots released before this step, ascending.
  std::vector<std::int32_t> ends;
  // Slots taken before this step, perhaps ones that `ends` released.
  std::vector<SequenceStart> starts;
  std::vector<SequenceShare> sequences;
  // The step's tokens are computed as this many micro-batches, so that two workers of a split plan
  // compute at once: micro-batch m takes the tokens [micro_batch_ends[m - 1], micro_batch_ends[m])
  // of all shares' tokens, one share after another. Ascending; the last entry is the number of
  // tokens. Empty means one micro-batch. A boundary may fall inside a share.
  std::vector<std::int32_t> micro_batch_ends;
  // Which route of the plan the step takes: index into Plan::routes (lib/model/plan.h).
  std::int32_t route = 0;
  // A worker gives up on its neighbours after this.
  absl::Duration timeout = absl::ZeroDuration();
  // For metrics, not on the wire: tokens of shares of one token that sample, and of all others.
  std::int32_t decode_tokens = 0;
  std::int32_t prefill_tokens = 0;
};

struct SequenceResult {
  std::int32_t slot = 0;
  // Not OK: this share failed (its block table was wrong, its logits were not numbers), and only
  // this one; all that follows is then empty. The slot stays taken and useless until its end.
  absl::Status status = absl::OkStatus();
  // There when `sample` was asked for.
  std::optional<SampledToken> sampled = {};
  // The tokens that will be sampled next whatever the logits, because the request's constraint
  // leaves no choice: they need not be waited for.
  std::vector<std::int32_t> forced = {};
  // Entry i: the token after the share's i-th; one less than tokens when next_token is -1.
  std::vector<SampledToken> scored = {};
  // There when `pool` was asked for: (hidden).
  std::vector<double> pooled = {};
};

struct StepResult {
  std::uint64_t step_id = 0;
  std::uint64_t generation = 0;
  // Not OK: the whole step failed and `sequences` is empty.
  absl::Status status = absl::OkStatus();
  // From the worker with the head, for shares that sample, score, pool or failed; any order. From
  // the others: failed shares only.
  std::vector<SequenceResult> sequences = {};
  // On the device, and waiting for neighbours.
  absl::Duration run = absl::ZeroDuration();
  absl::Duration wait = absl::ZeroDuration();
  // When the worker began and ended it: nanoseconds of Unix time.
  std::int64_t begin_unix_ns = 0;
  std::int64_t end_unix_ns = 0;
};

}  // namespace tandem
