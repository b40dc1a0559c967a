#pragma once

#include <cstdint>
#include <vector>

#include "gateway/schedule/scheduler.h"

namespace tandem {

// One request inside the scheduler: a row of tokens (prompt, what was generated, and what is ahead
// of the results: one placeholder for every sample that a step in flight will bring, and tokens
// that the request's constraint forces) and a count of how many of them steps have taken.
struct Scheduler::Request {
  std::uint64_t id = 0;
  GenerationRequest spec;
  std::vector<std::int32_t> generated;
  // Scores of the prompt so far, and whether they are still wanted.
  std::vector<SampledToken> scores;
  bool scoring = false;
  // Of the prompt's hidden states so far, and whether it is still wanted.
  std::vector<double> pooled;
  bool pooling = false;

  // Failed steps that this request was in, since it last got beyond one.
  std::int32_t replays = 0;
  // Times that the search for a culprit had it among the suspects.
  std::int32_t suspected = 0;
  // It gets beyond a failure when results have come for that many tokens.
  std::int32_t proof = 0;

  // While it runs.
  std::int32_t slot = -1;
  // Tokens whose keys and values are in the cache once the steps in flight are done.
  std::int32_t computed = 0;
  // Samples that steps in flight will bring (kSampledToken), and tokens known to come between and
  // behind them.
  std::vector<std::int32_t> ahead;
  std::vector<std::int32_t> global_blocks;
  // Logical blocks window_left, window_left + 1, ...
  std::vector<std::int32_t> window_blocks;
  // Leading logical blocks that the window has left.
  std::int32_t window_left = 0;
  std::int32_t global_reserved = 0;
  std::int32_t window_reserved = 0;

  std::int32_t prompt_size() const { return static_cast<std::int32_t>(spec.prompt.size()); }
  std::int32_t known() const { return prompt_size() + static_cast<std::int32_t>(generated.size()); }
  std::int32_t size() const { return known() + static_cast<std::int32_t>(ahead.size()); }
  std::int32_t left() const { return size() - computed; }
  std::int32_t token(std::int32_t position) const {
    if (position < prompt_size()) return spec.prompt[static_cast<std::size_t>(position)];
    if (position >= known()) return ahead[static_cast<std::size_t>(position - known())];
    return generated[static_cast<std::size_t>(position - prompt_size())];
  }
  bool wants_token() const { return size() - prompt_size() < spec.max_tokens; }
  // More than one token may be computed at a time once the prompt is.
  bool may_jump() const { return spec.sampling.constraint != nullptr; }
  // There is something left to compute. The last token wanted is never fed back.
  bool can_go_on() const { return computed < prompt_size() || wants_token(); }
  // Positions that enter the cache in the request's life.
  std::int32_t positions() const {
    return prompt_size() + (spec.max_tokens > 0 ? spec.max_tokens - 1 : 0);
  }
};

}  // namespace tandem
