#include "gateway/dispatch/cluster_metrics.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(RateWindow, CountsTheLastTenSeconds) {
  RateWindow rate;
  EXPECT_EQ(rate.PerSecond(absl::Seconds(100)), 0);
  for (int second = 100; second < 120; ++second)
    rate.Add(50, absl::Seconds(second) + absl::Milliseconds(500));
  EXPECT_NEAR(rate.PerSecond(absl::Seconds(120)), 50, 6);
  EXPECT_EQ(rate.PerSecond(absl::Seconds(140)), 0);
}

TEST(RateWindow, AFreshStartIsNotSlowness) {
  RateWindow rate;
  rate.Add(30, absl::Seconds(7));
  rate.Add(30, absl::Seconds(8));
  EXPECT_NEAR(rate.PerSecond(absl::Seconds(9)), 30, 0.1);
}

}  // namespace
}  // namespace tandem
