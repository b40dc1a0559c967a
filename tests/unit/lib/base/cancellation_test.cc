#include "lib/base/cancellation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

namespace tandem {
namespace {

TEST(CancellationTest, EndsTheWaitsOfNowAndThoseThatComeLater) {
  Cancellation cancellation;
  int ended = 0;
  {
    const Cancellation::Guard before(cancellation, [&] { ++ended; });
    EXPECT_FALSE(cancellation.cancelled());
    cancellation.Cancel();
    cancellation.Cancel();
    EXPECT_EQ(ended, 1);
  }
  const Cancellation::Guard after(cancellation, [&] { ++ended; });
  EXPECT_EQ(ended, 2);
  EXPECT_TRUE(cancellation.cancelled());
}

TEST(CancellationTest, AGuardThatIsGoneIsNotCalled) {
  Cancellation cancellation;
  int ended = 0;
  {
    const Cancellation::Guard guard(cancellation, [&] { ++ended; });
  }
  cancellation.Cancel();
  EXPECT_EQ(ended, 0);
}

// A socket that a Cancel is about to shut down is closed only afterwards: its number cannot belong
// to another file by then.
TEST(CancellationTest, AGuardGoesOnlyWhenItsEndIsOver) {
  Cancellation cancellation;
  std::promise<void> in_end;
  std::promise<void> go_on;
  std::atomic<bool> over{false};
  auto guard = std::make_unique<Cancellation::Guard>(cancellation, [&] {
    in_end.set_value();
    go_on.get_future().wait();
    over = true;
  });
  std::thread canceller([&] { cancellation.Cancel(); });
  in_end.get_future().wait();
  std::thread closer([&] {
    guard.reset();
    EXPECT_TRUE(over);
  });
  go_on.set_value();
  closer.join();
  canceller.join();
}

}  // namespace
}  // namespace tandem
