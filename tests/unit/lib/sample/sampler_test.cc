#include "lib/sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "lib/sample/softmax.h"

namespace tandem {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

SamplingParams Greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

std::vector<float> RandomLogits(std::size_t count, unsigned seed, float deviation = 3.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

double LogSum(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return max + std::log(sum);
}

// The obvious way: sort everything, in double.
std::int32_t TwinSample(const std::vector<float>& logits, const SamplingParams& params,
                        const TokenCounts& counts, std::int64_t position) {
  std::vector<double> value(logits.begin(), logits.end());
  for (const auto& [token, bias] : params.logit_bias)
    value[static_cast<std::size_t>(token)] += bias;
  for (const auto& [token, count] : counts.counts()) {
    value[static_cast<std::size_t>(token)] -=
        params.frequency_penalty * count + params.presence_penalty;
  }
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return value[static_cast<std::size_t>(a)] > value[static_cast<std::size_t>(b)];
  });
  if (params.temperature == 0) return order[0];
  const double max = value[static_cast<std::size_t>(order[0])];
  const auto weight = [&](std::int32_t t) {
    return std::exp((value[static_cast<std::size_t>(t)] - max) / params.temperature);
  };

  std::erase_if(order, [&](std::int32_t t) { return weight(t) < params.min_p; });
  if (params.top_k > 0 && order.size() > static_cast<std::size_t>(params.top_k))
    order.resize(static_cast<std::size_t>(params.top_k));
  double mass = 0;
  for (const std::int32_t t : order) mass += weight(t);
  double nucleus = 0;
  std::size_t kept = 0;
  while (kept < order.size() && (params.top_p >= 1 || kept == 0 || nucleus < params.top_p * mass))
    nucleus += weight(order[kept++]);
  order.resize(kept);
  std::sort(order.begin(), order.end());
  double left = UniformAt(params.seed, position) * nucleus;
  for (const std::int32_t t : order) {
    left -= weight(t);
    if (left < 0) return t;
  }
  return order.back();
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheBest) {
  Sampler sampler(5);
  const std::vector<float> logits = {1, 4, 2, 4, 0};
  EXPECT_EQ(sampler.Sample(logits, Greedy(), {}, 7)->token, 1);
}

TEST(SamplerTest, GreedySeesBiasAndPenalties) {
  Sampler sampler(5);
  const std::vector<float> logits = {1, 4, 2, 4, 0};
  SamplingParams params = Greedy();
  params.logit_bias = {{2, 2.5f}};
  EXPECT_EQ(sampler.Sample(logits, params, {}, 7)->token, 2);
  params = Greedy();
  params.presence_penalty = 1;
  TokenCounts counts;
  counts.Add(1);
  EXPECT_EQ(sampler.Sample(logits, params, counts, 7)->token, 3);
  params.presence_penalty = 0;
  params.frequency_penalty = 1.5f;
  counts.Add(3);
  counts.Add(3);
  counts.Add(1);  // 1 and 3 twice each: 4 - 3 = 1, less than token 2
  EXPECT_EQ(sampler.Sample(logits, params, counts, 7)->token, 2);
}

TEST(SamplerTest, CountsKeepTokensInOrder) {
  TokenCounts counts;
  for (const std::int32_t token : {5, 1, 5, 3, 1, 5}) counts.Add(token);
  const std::vector<std::pair<std::int32_t, std::int32_t>> expected = {{1, 2}, {3, 1}, {5, 3}};
  EXPECT_EQ(std::vector(counts.counts().begin(), counts.counts().end()), expected);
}

TEST(SamplerTest, AgreesWithSortingEverything) {
  std::mt19937 random(11);
  const auto uniform = [&] { return std::uniform_real_distribution<float>(0, 1)(random); };
  for (unsigned round = 0; round < 600; ++round) {
    const std::size_t vocab = 2 + random() % 3000;
    const std::vector<float> logits = RandomLogits(vocab, round, round % 3 == 0 ? 0.1f : 4.0f);
    SamplingParams params;
    params.temperature = round % 7 == 0 ? 0.0f : 0.1f + 2 * uniform();
    params.top_k = round % 2 == 0 ? 0 : static_cast<std::int32_t>(1 + random() % (vocab + 5));
    params.top_p = round % 3 == 0 ? 1.0f : 0.01f + 0.98f * uniform();
    params.min_p = round % 5 == 0 ? 0.3f * uniform() : 0.0f;
    params.seed = random();
    if (round % 4 == 0) {
      params.frequency_penalty = 4 * uniform() - 2;
      params.presence_penalty = 4 * uniform() - 2;
      params.logit_bias = {{0, 20 * uniform() - 10}, {1, -3}};
    }
    TokenCounts counts;
    for (int i = 0; i < 20; ++i) counts.Add(static_cast<std::int32_t>(random() % vocab));
    Sampler sampler(static_cast<std::int32_t>(vocab));
    for (std::int64_t position = 0; position < 5; ++position) {
      const absl::StatusOr<SampledToken> sampled = sampler.Sample(logits, params, counts, position);
      ASSERT_TRUE(sampled.ok()) << sampled.status();
      EXPECT_EQ(sampled->token, TwinSample(logits, params, counts, position))
          << "round " << round << " position " << position;
    }
  }
}

TEST(SamplerTest, TopKWithTiesKeepsTheLowerIds) {
  Sampler sampler(6);
  const std::vector<float> logits = {1, 2, 2, 2, 2, 0};
  SamplingParams params;
  params.top_k = 2;
  for (std::int64_t position = 0; position < 200; ++position) {
    const std::int32_t token = sampler.Sample(logits, params, {}, position)->token;
    EXPECT_TRUE(token == 1 || token == 2) << token;
  }
}

TEST(SamplerTest, TopPKeepsAtLeastOne) {
  Sampler sampler(4);
  const std::vector<float> logits = {0, 1, 0, 0};
  SamplingParams params;
  params.top_p = 1e-6f;
  for (std::int64_t position = 0; position < 100; ++position)
    EXPECT_EQ(sampler.Sample(logits, params, {}, position)->token, 1);
}

TEST(SamplerTest, TinyTemperatureIsGreedy) {
  Sampler sampler(3);
  const std::vector<float> logits = {-1e30f, 3e30f, 2e30f};
  SamplingParams params;
  params.temperature = 1e-30f;
  for (std::int64_t position = 0; position < 20; ++position)
    EXPECT_EQ(sampler.Sample(logits, params, {}, position)->token, 1);
}

TEST(SamplerTest, LogprobsAreThoseOfTheRawLogits) {
  const std::vector<float> logits = RandomLogits(262'144, 3, 5.0f);
  const double log_sum = LogSum(logits);
  Sampler sampler(262'144);
  SamplingParams params;
  params.temperature = 0.7f;
  params.logit_bias = {{17, 50.0f}};
  params.num_logprobs = 20;
  const absl::StatusOr<SampledToken> sampled = sampler.Sample(logits, params, {}, 1);
  ASSERT_TRUE(sampled.ok());
  EXPECT_EQ(sampled->token, 17);
  EXPECT_NEAR(sampled->logprob, logits[17] - log_sum, 2e-6);
  ASSERT_EQ(sampled->top.size(), 20u);
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(sampled->top[i].token, order[i]);
    EXPECT_NEAR(sampled->top[i].logprob, logits[static_cast<std::size_t>(order[i])] - log_sum,
                4e-6);
  }
}

TEST(SamplerTest, FlatLogitsOfAWholeVocabularySumUp) {
  const std::vector<float> logits(262'144, 2.5f);
  Sampler sampler(262'144);
  EXPECT_NEAR(sampler.Score(logits, 9, -1)->logprob, -std::log(262'144.0), 2e-6);
}

TEST(SamplerTest, TopTiesGoToTheLowerId) {
  Sampler sampler(6);
  const absl::StatusOr<SampledToken> scored =
      sampler.Score(std::vector<float>{3, 5, 3, 5, 3, 1}, 5, 4);
  ASSERT_TRUE(scored.ok());
  std::vector<std::int32_t> tokens;
  for (const TokenLogprob& t : scored->top) tokens.push_back(t.token);
  EXPECT_EQ(tokens, (std::vector<std::int32_t>{1, 3, 0, 2}));
  EXPECT_EQ(scored->token, 5);
}

TEST(SamplerTest, MoreLogprobsThanTokens) {
  Sampler sampler(3);
  EXPECT_EQ(sampler.Score(std::vector<float>{3, 5, 4}, 0, 20)->top.size(), 3u);
}

TEST(SamplerTest, MinusInfinityIsNeverChosen) {
  Sampler sampler(3);
  const std::vector<float> logits = {-kInfinity, 0, -kInfinity};
  SamplingParams params;
  for (std::int64_t position = 0; position < 50; ++position)
    EXPECT_EQ(sampler.Sample(logits, params, {}, position)->token, 1);
}

TEST(SamplerTest, BrokenLogitsAreAnErrorThatNamesTheToken) {
  Sampler sampler(3);
  for (const float bad : {kNan, kInfinity}) {
    const absl::Status status = sampler.Sample(std::vector<float>{1, bad, 0}, {}, {}, 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_NE(std::string(status.message()).find("token 1"), std::string::npos) << status;
    EXPECT_EQ(sampler.Score(std::vector<float>{1, bad, 0}, 0, 3).status().code(),
              absl::StatusCode::kInternal);
  }
  EXPECT_FALSE(sampler.Sample(std::vector<float>(3, -kInfinity), {}, {}, 0).ok());
}

TEST(SamplerTest, ValidatesEveryField) {
  EXPECT_TRUE(ValidateSamplingParams({}, 10).ok());
  const auto bad = [](auto change, const std::string& field) {
    SamplingParams params;
    change(params);
    const absl::Status status = ValidateSamplingParams(params, 10);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_NE(std::string(status.message()).find(field), std::string::npos) << status;
  };
  bad([](SamplingParams& p) { p.temperature = -0.1f; }, "temperature");
  bad([](SamplingParams& p) { p.temperature = kNan; }, "temperature");
  bad([](SamplingParams& p) { p.temperature = kInfinity; }, "temperature");
  bad([](SamplingParams& p) { p.top_p = 0; }, "top_p");
  bad([](SamplingParams& p) { p.top_p = 1.01f; }, "top_p");
  bad([](SamplingParams& p) { p.top_k = -1; }, "top_k");
  bad([](SamplingParams& p) { p.min_p = 1; }, "min_p");
  bad([](SamplingParams& p) { p.min_p = kNan; }, "min_p");
  bad([](SamplingParams& p) { p.frequency_penalty = 2.1f; }, "frequency_penalty");
  bad([](SamplingParams& p) { p.presence_penalty = -2.1f; }, "presence_penalty");
  bad([](SamplingParams& p) { p.num_logprobs = 21; }, "num_logprobs");
  bad([](SamplingParams& p) { p.num_logprobs = -2; }, "num_logprobs");
  bad([](SamplingParams& p) { p.logit_bias = {{10, 1.0f}}; }, "logit_bias");
  bad([](SamplingParams& p) { p.logit_bias = {{1, 1.0f}, {1, 1.0f}}; }, "logit_bias");
  bad([](SamplingParams& p) { p.logit_bias = {{1, 101.0f}}; }, "logit_bias");
}

TEST(SoftmaxTest, ExponentialIsAccurate) {
  for (float x = 0; x > -86.9f; x -= 0.0137f) {
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(ExpNegative(x) / exact, 1.0, 3e-7) << x;
  }
  EXPECT_EQ(ExpNegative(-87.1f), 0.0f);
  EXPECT_EQ(ExpNegative(-kInfinity), 0.0f);
  EXPECT_EQ(ExpNegative(0.0f), 1.0f);
}

// As if all other logits were -infinity, but for the log-probability, which is the model's own.
TEST(Sampler, AMaskLeavesOnlyWhatItAllows) {
  constexpr std::size_t kVocab = 300;
  Sampler sampler(kVocab);
  std::mt19937 random(3);
  for (unsigned seed = 0; seed < 200; ++seed) {
    const std::vector<float> logits = RandomLogits(kVocab, seed);
    std::vector<std::uint64_t> allowed((kVocab + 63) / 64);
    const unsigned dense = seed % 3;
    for (std::size_t token = 0; token < kVocab; ++token) {
      const bool may = dense == 0   ? random() % 40 == 0
                       : dense == 1 ? random() % 2 == 0
                                    : token >= 64;
      if (may || token == 70) allowed[token / 64] |= std::uint64_t{1} << (token % 64);
    }
    std::vector<float> masked = logits;
    for (std::size_t token = 0; token < kVocab; ++token) {
      if ((allowed[token / 64] >> (token % 64) & 1) == 0) masked[token] = -kInfinity;
    }
    SamplingParams params;
    params.temperature = seed % 4 == 0 ? 0.0f : 0.9f;
    params.top_p = seed % 5 == 0 ? 0.8f : 1.0f;
    params.top_k = seed % 7 == 0 ? 4 : 0;
    params.seed = seed;
    const auto with_mask = sampler.Sample(logits, params, {}, 5, allowed);
    const auto expected = sampler.Sample(masked, params, {}, 5);
    ASSERT_TRUE(with_mask.ok() && expected.ok());
    EXPECT_EQ(with_mask->token, expected->token);
    EXPECT_NEAR(with_mask->logprob,
                logits[static_cast<std::size_t>(with_mask->token)] - LogSum(logits), 1e-4);
  }
  const std::vector<float> nothing(kVocab, 0.0f);
  std::vector<std::uint64_t> none((kVocab + 63) / 64);
  EXPECT_EQ(sampler.Sample(nothing, {}, {}, 0, none).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace tandem
