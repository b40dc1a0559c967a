#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "gateway/schedule/engine.h"
#include "lib/sample/sampler.h"

namespace tandem {

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
