#include "lib/sample/candidates.h"

#include <algorithm>
#include <cmath>

#include "lib/sample/softmax.h"

namespace tandem {
namespace {

double Weight(const LogitCandidates& row, std::size_t i, const SamplingParams& params) {
  return ExpNegative((row.best[i].logit - row.best.front().logit) / params.temperature);
}

}  // namespace

std::optional<std::size_t> CandidateSampler::Kept(const LogitCandidates& row,
                                                  const SamplingParams& params) {
  std::size_t kept = row.best.size();
  // Whether those behind the candidates are dropped by min_p or top_k.
  bool all = false;
  if (params.min_p > 0) {
    const float floor = std::log(params.min_p);
    const auto below = std::find_if(row.best.begin(), row.best.end(), [&](const auto& candidate) {
      return (candidate.logit - row.best.front().logit) / params.temperature < floor;
    });
    all = below != row.best.end();
    kept = static_cast<std::size_t>(below - row.best.begin());
  }
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) <= kept) {
    kept = static_cast<std::size_t>(params.top_k);
    all = true;
  }
  if (params.top_p >= 1) return all ? std::optional(kept) : std::nullopt;
  // What top_p is a share of must be known: of the kept ones, or of all.
  if (!all && (params.min_p > 0 || params.top_k > 0)) return std::nullopt;
  double mass = row.scaled_sum;
  if (all) {
    mass = 0;
    for (std::size_t i = 0; i < kept; ++i) mass += Weight(row, i, params);
  }
  const double target = static_cast<double>(params.top_p) * mass;
  double sum = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    sum += Weight(row, i, params);
    if (sum >= target) return i + 1;
  }
  return all ? std::optional(kept) : std::nullopt;
}

std::optional<SampledToken> CandidateSampler::Sample(const LogitCandidates& row,
                                                     const SamplingParams& params,
                                                     const TokenCounts& counts,
                                                     std::int64_t position) {
  const bool penalised =
      !counts.counts().empty() && (params.frequency_penalty != 0 || params.presence_penalty != 0);
  if (penalised || !params.logit_bias.empty()) return std::nullopt;
  if (params.num_logprobs > static_cast<std::int32_t>(row.best.size())) return std::nullopt;
  LogitCandidate chosen = row.best.front();
  if (params.temperature > 0) {
    const std::optional<std::size_t> kept = Kept(row, params);
    if (!kept.has_value()) return std::nullopt;
    // In the order of their ids, as Sampler draws.
    kept_.assign(row.best.begin(), row.best.begin() + static_cast<std::ptrdiff_t>(*kept));
    std::sort(kept_.begin(), kept_.end(),
              [](const auto& a, const auto& b) { return a.token < b.token; });
    const auto weight = [&](const LogitCandidate& candidate) {
      return static_cast<double>(
          ExpNegative((candidate.logit - row.best.front().logit) / params.temperature));
    };
    double total = 0;
    for (const LogitCandidate& candidate : kept_) total += weight(candidate);
    double left = UniformAt(params.seed, position) * total;
    for (const LogitCandidate& candidate : kept_) {
      const double mine = weight(candidate);
      if (mine == 0) continue;
      chosen = candidate;
      left -= mine;
      if (left < 0) break;
    }
  }
  const double log_sum = static_cast<double>(row.best.front().logit) + std::log(row.sum);
  SampledToken sampled;
  sampled.token = chosen.token;
  sampled.logprob = static_cast<float>(static_cast<double>(chosen.logit) - log_sum);
  for (std::int32_t i = 0; i < params.num_logprobs; ++i) {
    const LogitCandidate& candidate = row.best[static_cast<std::size_t>(i)];
    sampled.top.push_back(
        {candidate.token, static_cast<float>(static_cast<double>(candidate.logit) - log_sum)});
  }
  return sampled;
}

}  // namespace tandem
