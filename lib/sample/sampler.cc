#include "lib/sample/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/sample/softmax.h"

namespace tandem {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int32_t kMaxLogprobs = 20;

absl::Status OutOfRange(std::string_view field, std::string_view expected, double found) {
  return absl::InvalidArgumentError(absl::StrCat("sampling: ", AbslView(field), ": expected ",
                                                 AbslView(expected), ", found ", found));
}

absl::Status CheckRange(std::string_view field, float value, float low, float high,
                        std::string_view expected) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for NaN
  return OutOfRange(field, expected, value);
}

absl::Status CheckLogits(std::span<const float> logits, const SoftmaxSummary& summary) {
  if (summary.finite) return absl::OkStatus();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == kInfinity) {
      return absl::InternalError(
          absl::StrCat("logits: expected numbers, found ", logits[i], " for token ", i));
    }
  }
  return absl::InternalError("logits: expected at least one above -infinity, found none");
}

// Higher values first, then lower ids.
struct ByRank {
  std::span<const float> values;
  bool operator()(std::int32_t a, std::int32_t b) const {
    const float va = values[static_cast<std::size_t>(a)];
    const float vb = values[static_cast<std::size_t>(b)];
    return va != vb ? va > vb : a < b;
  }
};

double MassOf(std::span<const float> values, std::span<const std::int32_t> tokens) {
  double sum = 0;
  for (const std::int32_t token : tokens)
    sum += ExpNegative(values[static_cast<std::size_t>(token)]);
  return sum;
}

std::uint64_t SplitMix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

absl::Status ValidateSamplingParams(const SamplingParams& params, std::int32_t vocab_size) {
  TANDEM_RETURN_IF_ERROR(CheckRange("temperature", params.temperature, 0,
                                    std::numeric_limits<float>::max(), "a number >= 0"));
  if (!(params.top_p > 0 && params.top_p <= 1))
    return OutOfRange("top_p", "a number in (0, 1]", params.top_p);
  if (params.top_k < 0) return OutOfRange("top_k", "0 or more", params.top_k);
  if (!(params.min_p >= 0 && params.min_p < 1))
    return OutOfRange("min_p", "a number in [0, 1)", params.min_p);
  TANDEM_RETURN_IF_ERROR(
      CheckRange("frequency_penalty", params.frequency_penalty, -2, 2, "a number in [-2, 2]"));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("presence_penalty", params.presence_penalty, -2, 2, "a number in [-2, 2]"));
  if (params.num_logprobs < -1 || params.num_logprobs > kMaxLogprobs) {
    return OutOfRange("num_logprobs", "a number in [-1, 20]", params.num_logprobs);
  }
  std::int32_t previous = -1;
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocab_size) {
      return OutOfRange("logit_bias", absl::StrCat("token ids in [0, ", vocab_size, ")"), token);
    }
    if (token <= previous)
      return OutOfRange("logit_bias", "token ids in ascending order, each once", token);
    TANDEM_RETURN_IF_ERROR(CheckRange("logit_bias", bias, -100, 100, "values in [-100, 100]"));
    previous = token;
  }
  if (params.constraint == nullptr) return absl::OkStatus();
  if (params.constraint->grammar.size() > kMaxConstraintBytes) {
    return OutOfRange("constraint", absl::StrCat("at most ", kMaxConstraintBytes, " bytes"),
                      static_cast<double>(params.constraint->grammar.size()));
  }
  if (params.constraint->stop_tokens.empty())
    return absl::InvalidArgumentError("sampling: constraint: expected a stop token, found none");
  for (const std::int32_t token : params.constraint->stop_tokens) {
    if (token < 0 || token >= vocab_size)
      return OutOfRange("constraint", absl::StrCat("stop tokens in [0, ", vocab_size, ")"), token);
  }
  return absl::OkStatus();
}

void TokenCounts::Add(std::int32_t token) {
  const auto at = std::lower_bound(counts_.begin(), counts_.end(), token,
                                   [](const auto& c, std::int32_t t) { return c.first < t; });
  if (at != counts_.end() && at->first == token) {
    ++at->second;
  } else {
    counts_.insert(at, {token, 1});
  }
}

double UniformAt(std::uint64_t seed, std::int64_t position) {
  constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15u;
  const std::uint64_t stream = SplitMix64(seed + kGolden);
  const std::uint64_t bits =
      SplitMix64(stream + (static_cast<std::uint64_t>(position) + 1) * kGolden);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampler::Sampler(std::int32_t vocab_size)
    : vocab_size_(vocab_size), scaled_(static_cast<std::size_t>(vocab_size)) {
  TANDEM_CHECK(vocab_size > 0);
  order_.reserve(static_cast<std::size_t>(vocab_size));
  block_sums_.reserve(static_cast<std::size_t>(vocab_size) / kSoftmaxBlock + 1);
}

absl::StatusOr<SampledToken> Sampler::Sample(std::span<const float> logits,
                                             const SamplingParams& params,
                                             const TokenCounts& counts, std::int64_t position,
                                             std::span<const std::uint64_t> allowed) {
  TANDEM_CHECK(static_cast<std::int32_t>(logits.size()) == vocab_size_);
  const SoftmaxSummary raw = Summarize(logits);
  TANDEM_RETURN_IF_ERROR(CheckLogits(logits, raw));
  const bool penalised =
      !counts.counts().empty() && (params.frequency_penalty != 0 || params.presence_penalty != 0);
  const bool adjusted = penalised || !params.logit_bias.empty() || !allowed.empty();

  SampledToken sampled;
  if (params.temperature == 0 && !adjusted) {
    sampled.token = raw.best;
  } else {
    Adjust(logits, params, counts);
    if (!allowed.empty()) Forbid(allowed);
    const SoftmaxSummary best = FindBest(scaled_);
    if (best.max == -kInfinity)
      return absl::InternalError("logits: all tokens that are allowed have -infinity");
    sampled.token = best.best;
    if (params.temperature > 0) {
      ScaleBelow(scaled_, best.max, params.temperature);
      sampled.token = Draw(FindCut(params), UniformAt(params.seed, position));
    }
  }
  sampled.logprob =
      static_cast<float>(logits[static_cast<std::size_t>(sampled.token)] - raw.log_sum);
  BestLogprobs(logits, params.num_logprobs, raw.log_sum, &sampled.top);
  return sampled;
}

absl::StatusOr<SampledToken> Sampler::Score(std::span<const float> logits, std::int32_t token,
                                            std::int32_t num_logprobs) {
  TANDEM_CHECK(static_cast<std::int32_t>(logits.size()) == vocab_size_);
  TANDEM_CHECK(token >= 0 && token < vocab_size_);
  const SoftmaxSummary raw = Summarize(logits);
  TANDEM_RETURN_IF_ERROR(CheckLogits(logits, raw));
  SampledToken scored;
  scored.token = token;
  scored.logprob = static_cast<float>(logits[static_cast<std::size_t>(token)] - raw.log_sum);
  BestLogprobs(logits, num_logprobs, raw.log_sum, &scored.top);
  return scored;
}

void Sampler::Adjust(std::span<const float> logits, const SamplingParams& params,
                     const TokenCounts& counts) {
  std::copy(logits.begin(), logits.end(), scaled_.begin());
  for (const auto& [token, bias] : params.logit_bias)
    scaled_[static_cast<std::size_t>(token)] += bias;
  for (const auto& [token, count] : counts.counts()) {
    scaled_[static_cast<std::size_t>(token)] -=
        params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
  }
}

void Sampler::Forbid(std::span<const std::uint64_t> allowed) {
  TANDEM_CHECK(allowed.size() == (scaled_.size() + 63) / 64);
  for (std::size_t word = 0; word < allowed.size(); ++word) {
    const std::size_t begin = word * 64;
    const std::size_t end = std::min(begin + 64, scaled_.size());
    if (allowed[word] == 0) {
      std::fill(scaled_.begin() + static_cast<std::ptrdiff_t>(begin),
                scaled_.begin() + static_cast<std::ptrdiff_t>(end), -kInfinity);
    } else if (allowed[word] != ~std::uint64_t{0}) {
      for (std::size_t i = begin; i < end; ++i) {
        if ((allowed[word] >> (i - begin) & 1) == 0) scaled_[i] = -kInfinity;
      }
    }
  }
}

// Finds the last token that min_p, top_k and top_p keep. Only a set is wanted, so selection in
// linear time replaces sorting.
SamplingCut Sampler::FindCut(const SamplingParams& params) {
  // exp(scaled) >= min_p, as scaled is 0 for the best token.
  const float floor = params.min_p > 0 ? std::log(params.min_p) : -kInfinity;
  if ((params.top_k <= 0 || params.top_k >= vocab_size_) && params.top_p >= 1)
    return {floor, vocab_size_};

  double mass = 0;
  CollectCandidates(params, floor, &mass);
  auto kept = static_cast<std::int32_t>(order_.size());
  if (params.top_k > 0 && params.top_k < kept) {
    kept = params.top_k;
    std::nth_element(order_.begin(), order_.begin() + kept - 1, order_.end(), ByRank{scaled_});
  }
  if (params.top_p < 1) {
    if (params.top_k > 0)
      mass = MassOf(scaled_, std::span(order_).first(static_cast<std::size_t>(kept)));
    kept = NucleusSize(kept, static_cast<double>(params.top_p) * mass);
  }
  const std::int32_t last =
      *std::max_element(order_.begin(), order_.begin() + kept, ByRank{scaled_});
  return {scaled_[static_cast<std::size_t>(last)], last};
}

// Fills order_ with a superset of what top_k and top_p keep: all tokens down to a value that a
// histogram over the values shows to be low enough. *mass: of all tokens at or above `floor`.
void Sampler::CollectCandidates(const SamplingParams& params, float floor, double* mass) {
  constexpr int kBuckets = 128;
  constexpr float kPerUnit = 4;  // buckets for each factor of e; the last takes all that is lower
  std::array<double, kBuckets> masses{};
  std::array<std::int32_t, kBuckets> counts{};
  for (const float value : scaled_) {
    if (value < floor) continue;
    const auto bucket = static_cast<std::size_t>(std::min(-value * kPerUnit, kBuckets - 1.0f));
    masses[bucket] += ExpNegative(value);
    ++counts[bucket];
  }
  *mass = std::accumulate(masses.begin(), masses.end(), 0.0);
  const double wanted_mass = params.top_k > 0 ? 0 : static_cast<double>(params.top_p) * *mass;
  std::int64_t count = 0;
  double sum = 0;
  int last = 0;
  for (; last < kBuckets - 1; ++last) {
    count += counts[static_cast<std::size_t>(last)];
    sum += masses[static_cast<std::size_t>(last)];
    if (count >= std::max(params.top_k, 1) && sum >= wanted_mass) break;
  }
  const float lowest = last == kBuckets - 1 ? -kInfinity : -static_cast<float>(last + 1) / kPerUnit;
  const float threshold = std::max(floor, lowest);
  order_.clear();
  for (std::int32_t i = 0; i < vocab_size_; ++i) {
    if (scaled_[static_cast<std::size_t>(i)] >= threshold) order_.push_back(i);
  }
}

// The smallest number n such that the n best of the first `kept` entries of order_ hold the mass
// `target` (`kept` when they do not); moves those n to the front.
std::int32_t Sampler::NucleusSize(std::int32_t kept, double target) {
  // Halving: the mass of [0, low) is `sum` and too little; that of [0, high) is enough.
  std::int32_t low = 0;
  std::int32_t high = kept;
  double sum = 0;
  while (high - low > 1) {
    const std::int32_t middle = low + (high - low) / 2;
    std::nth_element(order_.begin() + low, order_.begin() + middle, order_.begin() + high,
                     ByRank{scaled_});
    const double half =
        MassOf(scaled_, std::span(order_).subspan(static_cast<std::size_t>(low),
                                                  static_cast<std::size_t>(middle - low)));
    if (sum + half >= target) {
      high = middle;
    } else {
      sum += half;
      low = middle;
    }
  }
  return high;
}

// Walks the kept tokens in the order of their ids, block by block: no sorting, and the outcome
// depends on the kept set alone.
std::int32_t Sampler::Draw(SamplingCut cut, double uniform) {
  block_sums_.clear();
  const std::span<const float> values(scaled_);
  for (std::size_t begin = 0; begin < values.size(); begin += kSoftmaxBlock) {
    const std::size_t count = std::min(kSoftmaxBlock, values.size() - begin);
    block_sums_.push_back(KeptExpSum(values.subspan(begin, count), cut.value,
                                     cut.token - static_cast<std::int32_t>(begin)));
  }
  double left = uniform * std::accumulate(block_sums_.begin(), block_sums_.end(), 0.0);
  // The block that holds the target; rounding may carry it past the last one with any mass.
  std::size_t block = 0;
  for (std::size_t i = 0; i < block_sums_.size(); ++i) {
    if (block_sums_[i] == 0) continue;
    block = i;
    if (left < block_sums_[i]) break;
    left -= block_sums_[i];
  }
  const std::size_t begin = block * kSoftmaxBlock;
  const std::size_t end = std::min(begin + kSoftmaxBlock, values.size());
  std::int32_t chosen = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const auto token = static_cast<std::int32_t>(i);
    const bool kept = values[i] > cut.value || (values[i] == cut.value && token <= cut.token);
    const float weight = kept ? ExpNegative(values[i]) : 0.0f;
    if (weight == 0) continue;
    chosen = token;
    left -= weight;
    if (left < 0) break;
  }
  return chosen;
}

void Sampler::BestLogprobs(std::span<const float> logits, std::int32_t count, double log_sum,
                           std::vector<TokenLogprob>* top) {
  if (count <= 0) return;
  const auto wanted = static_cast<std::size_t>(std::min(count, vocab_size_));
  top->reserve(wanted);
  // Insertion into a short sorted list: after the first few tokens hardly any is better than the
  // list's last.
  for (std::int32_t i = 0; i < vocab_size_; ++i) {
    const float value = logits[static_cast<std::size_t>(i)];
    if (top->size() == wanted) {
      if (value <= top->back().logprob) continue;
      top->pop_back();
    }
    const auto at = std::upper_bound(top->begin(), top->end(), value,
                                     [](float v, const TokenLogprob& t) { return v > t.logprob; });
    top->insert(at, TokenLogprob{i, value});
  }
  for (TokenLogprob& entry : *top) entry.logprob = static_cast<float>(entry.logprob - log_sum);
}

}  // namespace tandem
