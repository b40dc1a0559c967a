#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "gateway/schedule/scheduler.h"

namespace tandem {

// One request inside the scheduler.
struct Scheduler::Request {
  std::uint64_t id = 0;
  GenerationRequest spec;
  std::vector<std::int32_t> generated;
  std::vector<SampledToken> scores;  // of the prompt so far
  bool scoring = false;              // the prompt's scores are still wanted
  std::int32_t replays = 0;          // resets during a step of it, since its last token or scores

  // While it runs.
  std::int32_t slot = -1;
  std::int32_t computed = 0;  // tokens whose keys and values are in the cache
  std::vector<std::int32_t> global_blocks;
  std::deque<std::int32_t> window_blocks;  // logical blocks window_left, window_left + 1, ...
  std::int32_t window_left = 0;            // leading logical blocks that the window has left
  std::int32_t global_reserved = 0;
  std::int32_t window_reserved = 0;

  std::int32_t prompt_size() const { return static_cast<std::int32_t>(spec.prompt.size()); }
  std::int32_t size() const { return prompt_size() + static_cast<std::int32_t>(generated.size()); }
  std::int32_t left() const { return size() - computed; }
  std::int32_t token(std::int32_t position) const {
    return position < prompt_size() ? spec.prompt[static_cast<std::size_t>(position)]
                                    : generated[static_cast<std::size_t>(position - prompt_size())];
  }
  bool wants_token() const { return static_cast<std::int32_t>(generated.size()) < spec.max_tokens; }
  // Positions that enter the cache in the request's life: the last token generated is never fed
  // back.
  std::int32_t positions() const {
    return prompt_size() + (spec.max_tokens > 0 ? spec.max_tokens - 1 : 0);
  }
};

}  // namespace tandem
