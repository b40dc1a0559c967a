#include "lib/base/clock.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(ClockTest, ManualClockTurnsByHand) {
  ManualClock clock(absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Uptime(), absl::ZeroDuration());
  clock.Advance(absl::Seconds(5));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(105));
  EXPECT_EQ(clock.Uptime(), absl::Seconds(5));
}

TEST(ClockTest, RealUptimeNeverGoesBack) {
  absl::Duration last = Clock::Real().Uptime();
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration now = Clock::Real().Uptime();
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_GT(Clock::Real().Now(), absl::FromUnixSeconds(1'700'000'000));
}

}  // namespace
}  // namespace tandem
