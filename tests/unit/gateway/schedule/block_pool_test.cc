#include "gateway/schedule/block_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace tandem {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnce) {
  BlockPool pool(5);
  ASSERT_TRUE(pool.Reserve(5));
  std::set<std::int32_t> taken;
  for (int i = 0; i < 5; ++i) taken.insert(pool.Take());
  EXPECT_EQ(taken, (std::set<std::int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.taken(), 5);
  pool.Give(3);
  EXPECT_EQ(pool.taken(), 4);
  EXPECT_EQ(pool.Take(), 3);
}

TEST(BlockPool, ReservesNoMoreThanThereIs) {
  BlockPool pool(4);
  EXPECT_TRUE(pool.Reserve(3));
  EXPECT_FALSE(pool.Reserve(2));
  EXPECT_EQ(pool.unreserved(), 1);
  pool.Unreserve(2);
  EXPECT_TRUE(pool.Reserve(3));
  EXPECT_EQ(pool.unreserved(), 0);
  pool.Clear();
  EXPECT_EQ(pool.unreserved(), 4);
  EXPECT_EQ(pool.taken(), 0);
}

TEST(BlockPoolDeathTest, GivingTwiceIsABug) {
  BlockPool pool(2);
  const std::int32_t block = pool.Take();
  pool.Give(block);
  EXPECT_DEATH(pool.Give(block), "check failed");
}

}  // namespace
}  // namespace tandem
