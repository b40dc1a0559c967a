#include "lib/sample/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace tandem {
namespace {

constexpr std::int32_t kVocab = 3000;

// The best 64 of a row, and its sums.
struct Row {
  std::vector<LogitCandidate> best;
  LogitCandidates candidates;
};

Row Summarise(const std::vector<float>& logits, float temperature) {
  Row row;
  for (std::int32_t i = 0; i < kVocab; ++i)
    row.best.push_back({logits[static_cast<std::size_t>(i)], i});
  std::stable_sort(row.best.begin(), row.best.end(),
                   [](const auto& a, const auto& b) { return a.logit > b.logit; });
  for (const LogitCandidate& candidate : row.best) {
    const auto below = static_cast<double>(candidate.logit - row.best.front().logit);
    row.candidates.sum += std::exp(below);
    row.candidates.scaled_sum += std::exp(below / static_cast<double>(temperature));
  }
  row.best.resize(64);
  row.candidates.best = row.best;
  return row;
}

std::vector<float> RandomLogits(std::mt19937* random, float width) {
  std::vector<float> logits(kVocab);
  // Steps of a sixteenth, so that there are ties.
  for (float& logit : logits)
    logit = std::round(std::normal_distribution<float>(0, width)(*random) * 16) / 16;
  return logits;
}

TEST(CandidateSampler, ChoosesAsSamplerDoes) {
  std::mt19937 random(5);
  Sampler sampler(kVocab);
  CandidateSampler candidates;
  const TokenCounts counts;
  int told = 0;
  int asked = 0;
  for (int round = 0; round < 400; ++round) {
    SamplingParams params;
    params.temperature = std::vector<float>{0, 0.3f, 0.7f, 1, 1.7f}[random() % 5];
    params.top_p = std::vector<float>{0.3f, 0.9f, 1}[random() % 3];
    params.top_k = std::vector<std::int32_t>{0, 1, 20, 64, 65}[random() % 5];
    params.min_p = std::vector<float>{0, 0, 0.05f, 0.5f}[random() % 4];
    params.num_logprobs = std::vector<std::int32_t>{-1, 0, 5, 20}[random() % 4];
    params.seed = random();
    const std::vector<float> logits = RandomLogits(&random, round % 2 == 0 ? 2.0f : 5.0f);
    const Row row = Summarise(logits, params.temperature > 0 ? params.temperature : 1);
    const auto expected = sampler.Sample(logits, params, counts, round);
    ASSERT_TRUE(expected.ok());
    const auto found = candidates.Sample(row.candidates, params, counts, round);
    ++asked;
    if (!found.has_value()) continue;
    ++told;
    EXPECT_EQ(found->token, expected->token) << "round " << round;
    EXPECT_NEAR(found->logprob, expected->logprob, 1e-5);
    ASSERT_EQ(found->top.size(), expected->top.size());
    for (std::size_t i = 0; i < found->top.size(); ++i) {
      EXPECT_EQ(found->top[i].token, expected->top[i].token);
      EXPECT_NEAR(found->top[i].logprob, expected->top[i].logprob, 1e-5);
    }
  }
  EXPECT_GT(told, asked / 2);
}

TEST(CandidateSampler, SaysWhereItCannotTell) {
  std::mt19937 random(6);
  const Row row = Summarise(RandomLogits(&random, 0.5f), 1);
  CandidateSampler sampler;
  TokenCounts counts;
  const auto tells = [&](const SamplingParams& params) {
    return sampler.Sample(row.candidates, params, counts, 7).has_value();
  };
  const auto params = [](float temperature, float top_p, std::int32_t top_k) {
    SamplingParams made;
    made.temperature = temperature;
    made.top_p = top_p;
    made.top_k = top_k;
    return made;
  };
  EXPECT_TRUE(tells(params(0, 1, 0)));
  EXPECT_TRUE(tells(params(1, 1, 64)));
  EXPECT_FALSE(tells(params(1, 1, 65)));
  // A draw from all of a flat distribution.
  EXPECT_FALSE(tells(params(1, 1, 0)));
  EXPECT_FALSE(tells(params(1, 0.9f, 0)));
  EXPECT_TRUE(tells(params(1, 0.9f, 64)));
  SamplingParams biased = params(0, 1, 0);
  biased.logit_bias = {{3, 1.0f}};
  EXPECT_FALSE(tells(biased));
  SamplingParams penalised = params(0, 1, 0);
  penalised.presence_penalty = 1;
  EXPECT_TRUE(tells(penalised));
  counts.Add(3);
  EXPECT_FALSE(tells(penalised));
  EXPECT_TRUE(tells(params(0, 1, 0)));
}

}  // namespace
}  // namespace tandem
