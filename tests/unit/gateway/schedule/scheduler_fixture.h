#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>

#include "gateway/schedule/scheduler.h"
#include "tests/simulation/fake_model.h"

namespace tandem {

// What the scheduler's tests share.

// Of the fake model; room for a few short requests.
inline SchedulerOptions SmallOptions() {
  SchedulerOptions options;
  options.limits = {
      .max_tokens = 32, .max_sequences = 4, .max_logit_rows = 8, .max_blocks_per_sequence = 64};
  options.context_tokens = 512;
  options.vocab_size = FakeModel{}.vocab_size;
  options.hidden_size = FakeModel{}.hidden_size;
  options.sliding_window = 24;
  options.global_blocks = 128;
  options.window_blocks = 64;
  options.eos_ids = {1};
  return options;
}

// Tokens 2, 3, 4, ...
inline GenerationRequest SmallRequest(std::int32_t prompt_tokens, std::int32_t max_tokens,
                                      std::uint64_t seed = 1) {
  GenerationRequest request;
  request.prompt.resize(static_cast<std::size_t>(prompt_tokens));
  std::iota(request.prompt.begin(), request.prompt.end(), 2);
  request.max_tokens = max_tokens;
  request.sampling.seed = seed;
  request.ignore_eos = true;
  return request;
}

// Answers every sampling share with `token`, scores with zeros, and every pooling one with what it
// has of tokens.
inline StepResult ResultOf(const StepPlan& plan, std::int32_t token) {
  StepResult result{.step_id = plan.step_id, .sequences = {}};
  for (const SequenceShare& share : plan.sequences) {
    SequenceResult out;
    out.slot = share.slot;
    if (share.sample) out.sampled.emplace().token = token;
    if (share.score) out.scored.resize(share.tokens.size() - (share.next_token < 0 ? 1 : 0));
    if (share.pool) {
      out.pooled.resize(static_cast<std::size_t>(FakeModel{}.hidden_size),
                        static_cast<double>(share.tokens.size()));
    }
    result.sequences.push_back(std::move(out));
  }
  return result;
}

}  // namespace tandem
