#include "lib/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace tandem {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryIndexOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (const std::int64_t count : {0, 1, 2, 7, 100, 1001}) {
    for (const std::int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      pool.ParallelFor(count, grain, [&](std::int64_t begin, std::int64_t end, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, GetParam());
        for (std::int64_t i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)].fetch_add(1);
      });
      for (const std::atomic<int>& times : seen) EXPECT_EQ(times.load(), 1);
    }
  }
}

TEST_P(ThreadPoolTest, AWorkersScratchIsItsOwn) {
  ThreadPool pool(GetParam());
  // Plain integers: a race shows under the thread sanitizer, lost counts everywhere.
  std::vector<std::int64_t> counts(static_cast<std::size_t>(GetParam()) * 16);
  for (int round = 0; round < 200; ++round) {
    pool.ParallelFor(64, 1, [&](std::int64_t begin, std::int64_t end, int worker) {
      counts[static_cast<std::size_t>(worker) * 16] += end - begin;
    });
  }
  std::int64_t sum = 0;
  for (const std::int64_t count : counts) sum += count;
  EXPECT_EQ(sum, 200 * 64);
}

TEST_P(ThreadPoolTest, SeveralCallersTakeTurns) {
  ThreadPool pool(GetParam());
  std::int64_t unguarded = 0;  // only safe because one ParallelFor runs at a time
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        std::atomic<std::int64_t> done{0};
        pool.ParallelFor(
            10, 10, [&](std::int64_t begin, std::int64_t end, int) { unguarded += end - begin; });
        pool.ParallelFor(
            10, 1, [&](std::int64_t begin, std::int64_t end, int) { done.fetch_add(end - begin); });
        EXPECT_EQ(done.load(), 10);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(unguarded, 3 * 100 * 10);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 5));

}  // namespace
}  // namespace tandem
