#include "gpu-worker/stage/run_times.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

using absl::Milliseconds;
using testing::Optional;

TEST(RunTimes, ExpectsWhatTheLastOneLikeItTook) {
  RunTimes times(2);
  const RunTimes::Run first = times.Sent(1, true, true, 1, Milliseconds(100));
  EXPECT_EQ(times.ExpectedEnd(first), std::nullopt);
  times.Ended(first, Milliseconds(105));
  const RunTimes::Run second = times.Sent(1, true, true, 1, Milliseconds(110));
  EXPECT_THAT(times.ExpectedEnd(second), Optional(Milliseconds(115)));
  times.Ended(second, Milliseconds(117));
  EXPECT_THAT(times.ExpectedEnd(times.Sent(1, true, true, 1, Milliseconds(120))),
              Optional(Milliseconds(127)));
}

TEST(RunTimes, KeepsKindsApart) {
  RunTimes times(2);
  times.Ended(times.Sent(0, true, true, 5, absl::ZeroDuration()), Milliseconds(9));
  const auto known = [&](std::int32_t stage, bool decodes, bool head, std::int32_t tokens) {
    const absl::Duration now = absl::Seconds(1);
    return times.ExpectedEnd(times.Sent(stage, decodes, head, tokens, now)).has_value();
  };
  EXPECT_TRUE(known(0, true, true, 8));
  EXPECT_FALSE(known(0, true, true, 4));
  EXPECT_FALSE(known(0, true, true, 9));
  EXPECT_FALSE(known(0, true, false, 8));
  EXPECT_FALSE(known(0, false, true, 8));
  EXPECT_FALSE(known(1, true, true, 8));
}

TEST(RunTimes, OneThatWaitsForAnotherBeginsBehindIt) {
  RunTimes times(1);
  const RunTimes::Run first = times.Sent(0, true, true, 1, Milliseconds(0));
  const RunTimes::Run second = times.Sent(0, true, true, 1, Milliseconds(1));
  times.Ended(first, Milliseconds(10));
  EXPECT_THAT(times.ExpectedEnd(second), Optional(Milliseconds(20)));
  times.Ended(second, Milliseconds(22));
  EXPECT_THAT(times.ExpectedEnd(times.Sent(0, true, true, 1, Milliseconds(30))),
              Optional(Milliseconds(42)));
}

}  // namespace
}  // namespace tandem
