#include "lib/base/futex.h"

#include <gtest/gtest.h>

#include <thread>

namespace tandem {
namespace {

TEST(FutexTest, AnotherValueReturnsAtOnce) {
  const std::atomic<std::uint32_t> word{1};
  EXPECT_EQ(FutexWait(&word, 0, absl::Hours(1)), FutexResult::kValueDiffers);
}

TEST(FutexTest, TimesOut) {
  const std::atomic<std::uint32_t> word{1};
  EXPECT_EQ(FutexWait(&word, 1, absl::Milliseconds(5)), FutexResult::kTimedOut);
  EXPECT_EQ(FutexWait(&word, 1, -absl::Seconds(1)), FutexResult::kTimedOut);
}

TEST(FutexTest, WakesAWaiter) {
  std::atomic<std::uint32_t> word{0};
  std::thread waker([&] {
    word.store(1);
    FutexWakeAll(&word);
  });
  while (word.load() == 0) FutexWait(&word, 0, absl::Hours(1));
  waker.join();
  EXPECT_EQ(word.load(), 1u);
}

TEST(FutexTest, AnEndlessTimeoutIsAllowed) {
  std::atomic<std::uint32_t> word{0};
  std::thread waker([&] {
    word.store(1);
    FutexWakeAll(&word);
  });
  while (word.load() == 0) FutexWait(&word, 0, absl::InfiniteDuration());
  waker.join();
}

}  // namespace
}  // namespace tandem
