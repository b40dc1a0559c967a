#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// What a request's text must be: of the language of a grammar (lib/constrain/ebnf.h).
struct Constraint {
  std::string grammar;
  // They end the text, and may come where it is whole: at least one.
  std::vector<std::int32_t> stop_tokens;
  bool operator==(const Constraint&) const = default;
};
inline constexpr std::size_t kMaxConstraintBytes = std::size_t{512} << 10;

// How one request wants its tokens chosen. Meanings are those of the OpenAI API, extended as vLLM
// extends it (top_k, min_p).
struct SamplingParams {
  float temperature = 1.0f;  // >= 0; 0 takes the most likely token
  float top_p = 1.0f;        // (0, 1]
  std::int32_t top_k = 0;    // 0: all
  float min_p = 0.0f;  // [0, 1): tokens under min_p times the best one's probability are dropped
  float frequency_penalty = 0.0f;  // [-2, 2], times the count among generated tokens
  float presence_penalty = 0.0f;   // [-2, 2], once for every generated token
  std::vector<std::pair<std::int32_t, float>> logit_bias;  // token, [-100, 100]; ascending by token
  std::uint64_t seed = 0;
  std::int32_t num_logprobs = -1;  // -1: none; 0..20: that many best tokens beside the chosen one
  // Null: none.
  std::shared_ptr<const Constraint> constraint;

  // Only some tokens are allowed, and nobody knows which before the one before is chosen: a few
  // likely ones are not enough to choose from.
  bool needs_all_logits() const { return constraint != nullptr; }
};
// INVALID_ARGUMENT naming the field, the range and what was found.
absl::Status ValidateSamplingParams(const SamplingParams& params, std::int32_t vocab_size);

struct TokenLogprob {
  std::int32_t token = 0;
  // natural logarithm of the model's own probability: before temperature, bias and penalties
  float logprob = 0;
};

struct SampledToken {
  std::int32_t token = 0;
  float logprob = 0;
  // num_logprobs long, best first (ties: lower id first); empty when none were asked for
  std::vector<TokenLogprob> top;
};

// How often each token was generated so far, for the penalties. Owned by the worker, one per slot.
class TokenCounts {
 public:
  void Add(std::int32_t token);
  void Clear() { counts_.clear(); }
  // Memory for that many different tokens: Add then allocates none.
  void Reserve(std::size_t tokens) { counts_.reserve(tokens); }
  std::span<const std::pair<std::int32_t, std::int32_t>> counts() const { return counts_; }

 private:
  std::vector<std::pair<std::int32_t, std::int32_t>> counts_;  // token, count; ascending by token
};

// A number in [0, 1), multiple of 2^-53, that depends on (seed, position) alone. The seed goes
// through the SplitMix64 finaliser, the position is added as a step of the golden-ratio Weyl
// sequence, and the finaliser runs again: a counter-based generator with no state to keep.
double UniformAt(std::uint64_t seed, std::int64_t position);

// The last token that truncation keeps, in the order of falling value, then rising id.
struct SamplingCut {
  float value;
  std::int32_t token;
};

// Chooses tokens from logits. Holds scratch memory for one vocabulary; one thread at a time.
// The random number is UniformAt(params.seed, position): replaying a request gives the same tokens.
//
// Order of the steps, that of vLLM: bias and penalties on the logits; temperature; min_p; top_k;
// top_p over what is left. Ties go to the lower id. Both calls return INTERNAL for logits with a
// NaN or +infinity, or none above -infinity: a stage that yields them has failed.
class Sampler {
 public:
  explicit Sampler(std::int32_t vocab_size);
  // `logits`: (vocab) float32. `position`: that of the token to be chosen. `params` are valid.
  // `allowed`: one bit for each token, 64 in a word; empty: all are. INTERNAL where all that are
  // allowed have -infinity.
  absl::StatusOr<SampledToken> Sample(std::span<const float> logits, const SamplingParams& params,
                                      const TokenCounts& counts, std::int64_t position,
                                      std::span<const std::uint64_t> allowed = {});
  // Log-probabilities of a given token, as for a prompt that is echoed: `token` is the one that
  // stands there.
  absl::StatusOr<SampledToken> Score(std::span<const float> logits, std::int32_t token,
                                     std::int32_t num_logprobs);

 private:
  void Adjust(std::span<const float> logits, const SamplingParams& params,
              const TokenCounts& counts);
  // -infinity for what is not allowed.
  void Forbid(std::span<const std::uint64_t> allowed);
  SamplingCut FindCut(const SamplingParams& params);
  void CollectCandidates(const SamplingParams& params, float floor, double* mass);
  std::int32_t NucleusSize(std::int32_t kept, double target);
  std::int32_t Draw(SamplingCut cut, double uniform);
  void BestLogprobs(std::span<const float> logits, std::int32_t count, double log_sum,
                    std::vector<TokenLogprob>* top);

  std::int32_t vocab_size_;
  std::vector<float> scaled_;  // adjusted logits; then (logit - largest) / temperature, at most 0
  std::vector<double> block_sums_;
  std::vector<std::int32_t> order_;  // candidates, partly ordered
};

}  // namespace tandem
