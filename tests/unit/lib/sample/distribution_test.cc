#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lib/sample/sampler.h"

namespace tandem {
namespace {

// Chi-square of counts against probabilities, over the cells with an expected count of at least 5.
double ChiSquare(const std::vector<int>& counts, const std::vector<double>& probabilities,
                 int draws, int* freedom) {
  double sum = 0;
  *freedom = -1;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = probabilities[i] * draws;
    if (expected < 5) continue;
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++*freedom;
  }
  return sum;
}

// A value that a true distribution exceeds about once in a hundred thousand times (Wilson and
// Hilferty's approximation). The draws are seeded: the outcome never varies from run to run.
double Limit(int freedom) {
  const double n = freedom;
  const double t = 1 - 2 / (9 * n) + 4.27 * std::sqrt(2 / (9 * n));
  return n * t * t * t;
}

constexpr int kDraws = 100'000;

TEST(DistributionTest, UniformNumbersFillTheirRange) {
  for (const std::uint64_t seed :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0xffffffffffffffff}}) {
    std::vector<int> counts(100);
    for (int i = 0; i < kDraws; ++i) {
      const double u = UniformAt(seed, i);
      ASSERT_GE(u, 0);
      ASSERT_LT(u, 1);
      ++counts[static_cast<std::size_t>(u * 100)];
    }
    int freedom = 0;
    const double chi = ChiSquare(counts, std::vector<double>(100, 0.01), kDraws, &freedom);
    EXPECT_LT(chi, Limit(freedom)) << seed;
  }
}

TEST(DistributionTest, NeighbouringSeedsAndPositionsAreUnrelated) {
  std::vector<int> by_seed(100);
  std::vector<int> by_position(100);
  for (int i = 0; i < kDraws; ++i) {
    const auto seed = static_cast<std::uint64_t>(i);
    const auto cell = [](double a, double b) {
      return static_cast<std::size_t>(a * 10) * 10 + static_cast<std::size_t>(b * 10);
    };
    ++by_seed[cell(UniformAt(seed, 5), UniformAt(seed + 1, 5))];
    ++by_position[cell(UniformAt(7, 2 * i), UniformAt(7, 2 * i + 1))];
  }
  for (const std::vector<int>& counts : {by_seed, by_position}) {
    int freedom = 0;
    const double chi = ChiSquare(counts, std::vector<double>(100, 0.01), kDraws, &freedom);
    EXPECT_LT(chi, Limit(freedom));
  }
}

TEST(DistributionTest, UniformIsAPureFunction) {
  EXPECT_EQ(UniformAt(42, 7), UniformAt(42, 7));
  EXPECT_NE(UniformAt(42, 7), UniformAt(42, 8));
  EXPECT_NE(UniformAt(42, 7), UniformAt(43, 7));
}

std::vector<int> Draw(const std::vector<float>& logits, SamplingParams params) {
  Sampler sampler(static_cast<std::int32_t>(logits.size()));
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<std::size_t>(sampler.Sample(logits, params, {}, i)->token)];
  return counts;
}

TEST(DistributionTest, DrawsFollowTheSoftmaxAtEveryTemperature) {
  const std::vector<float> logits = {0.3f, -1.2f, 2.0f, 1.1f, -0.4f, 0.9f, 1.9f, -3.0f};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    SamplingParams params;
    params.temperature = temperature;
    params.seed = 99;
    std::vector<double> probabilities;
    double sum = 0;
    for (const float logit : logits)
      sum += probabilities.emplace_back(std::exp(logit / temperature));
    for (double& p : probabilities) p /= sum;
    int freedom = 0;
    const double chi = ChiSquare(Draw(logits, params), probabilities, kDraws, &freedom);
    EXPECT_LT(chi, Limit(freedom)) << temperature;
    // The test can fail: another temperature's draws do not fit.
    params.temperature = temperature * 1.1f;
    const double other = ChiSquare(Draw(logits, params), probabilities, kDraws, &freedom);
    EXPECT_GT(other, Limit(freedom)) << temperature;
  }
}

TEST(DistributionTest, TruncationRenormalises) {
  // Probabilities 0.4, 0.3, 0.2, 0.1.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f),
                                     std::log(0.3f)};
  struct Case {
    std::int32_t top_k;
    float top_p;
    float min_p;
    std::vector<double> expected;
  };
  const std::vector<Case> cases = {
      {2, 1.0f, 0.0f, {0, 4.0 / 7, 0, 3.0 / 7}},
      {0, 0.75f, 0.0f, {0, 4.0 / 9, 2.0 / 9, 3.0 / 9}},
      {0, 1.0f, 0.6f, {0, 4.0 / 7, 0, 3.0 / 7}},
      {3, 0.7f, 0.0f, {0, 4.0 / 7, 0, 3.0 / 7}},  // of the three best, renormalised, two hold 7/9
  };
  for (const Case& c : cases) {
    SamplingParams params;
    params.top_k = c.top_k;
    params.top_p = c.top_p;
    params.min_p = c.min_p;
    params.seed = 5;
    const std::vector<int> counts = Draw(logits, params);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (c.expected[i] == 0) {
        EXPECT_EQ(counts[i], 0) << i;
      }
    }
    int freedom = 0;
    const double chi = ChiSquare(counts, c.expected, kDraws, &freedom);
    EXPECT_LT(chi, Limit(freedom));
  }
}

}  // namespace
}  // namespace tandem
