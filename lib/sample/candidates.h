#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/sample/sampler.h"

namespace tandem {

// What a device knows of a row of logits when it has not handed it over: the best ones, higher
// first, then lower tokens first, and sums over the whole row, all of whose logits are numbers or
// -infinity.
struct LogitCandidate {
  float logit = 0;
  std::int32_t token = 0;
};
struct LogitCandidates {
  std::span<const LogitCandidate> best;  // at least one
  double sum = 0;                        // of exp(logit - the best one)
  double scaled_sum = 0;                 // of exp((logit - the best one) / temperature)
};

inline constexpr std::size_t kMostCandidates = 64;
using CandidateMemory = std::array<LogitCandidate, kMostCandidates>;

// Chooses as Sampler does, of candidates alone. Nothing where they do not tell: bias and penalties,
// a draw from all of the vocabulary, more tokens kept or asked for than there are candidates. The
// sums of floating-point numbers are grouped in another way than in Sampler, so a draw within about
// 1e-6 of the border between two tokens may fall to the other side. One thread.
class CandidateSampler {
 public:
  std::optional<SampledToken> Sample(const LogitCandidates& row, const SamplingParams& params,
                                     const TokenCounts& counts, std::int64_t position);

 private:
  // How many of the best candidates min_p, top_k and top_p keep.
  static std::optional<std::size_t> Kept(const LogitCandidates& row, const SamplingParams& params);

  std::vector<LogitCandidate> kept_;
};

}  // namespace tandem
