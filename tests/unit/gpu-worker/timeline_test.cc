#include "gpu-worker/vulkan/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gpu-worker/vulkan/command_buffer.h"
#include "lib/base/clock.h"
#include "tests/unit/gpu-worker/program_fixture.h"

namespace tandem {
namespace {

using absl::Milliseconds;

class TimelineTest : public VulkanProgramTest {
 protected:
  void SetUp() override {
    VulkanProgramTest::SetUp();
    ASSERT_NE(device_, nullptr);
    auto timeline = vulkan::Timeline::Create(*device_);
    ASSERT_TRUE(timeline.ok()) << timeline.status();
    timeline_ = *std::move(timeline);
    auto pool = vulkan::CommandPool::Create(*device_);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
    auto commands = pool_.Begin();
    ASSERT_TRUE(commands.ok()) << commands.status();
    ASSERT_TRUE(commands->Finish().ok());
    commands_ = commands->handle();
  }
  // They are of the device.
  void TearDown() override {
    timeline_ = {};
    pool_ = {};
    VulkanProgramTest::TearDown();
  }

  static absl::Duration Now() { return Clock::Real().Uptime(); }
  absl::Status Look(std::uint64_t value, absl::Duration from, absl::Duration until,
                    Deadline deadline) const {
    return timeline_.WaitLooking(value, Now() + from, Now() + until, deadline);
  }

  vulkan::Timeline timeline_;
  vulkan::CommandPool pool_;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
};

TEST_F(TimelineTest, LookingFindsTheEndWheneverItComes) {
  std::uint64_t value = 0;
  // While it sleeps, while it looks, behind that.
  const absl::Duration windows[][2] = {{absl::Seconds(30), absl::Seconds(31)},
                                       {absl::Seconds(-1), absl::Seconds(31)},
                                       {absl::Seconds(-2), absl::Seconds(-1)}};
  for (const auto& [from, until] : windows) {
    ASSERT_TRUE(device_->Submit({&commands_, 1}, timeline_.handle(), ++value).ok());
    EXPECT_TRUE(Look(value, from, until, Soon()).ok());
    // It is there already.
    EXPECT_TRUE(Look(value, from, until, Soon()).ok());
  }
}

TEST_F(TimelineTest, LookingEndsAtTheDeadline) {
  // Before it would look, while it does, and behind that.
  const absl::Duration windows[][2] = {{absl::Seconds(30), absl::Seconds(31)},
                                       {absl::ZeroDuration(), absl::Seconds(31)},
                                       {absl::ZeroDuration(), Milliseconds(1)}};
  for (const auto& [from, until] : windows) {
    const absl::Duration start = Now();
    EXPECT_TRUE(absl::IsDeadlineExceeded(Look(1, from, until, Deadline::After(Milliseconds(20)))));
    EXPECT_GE(Now() - start, Milliseconds(20));
    EXPECT_LT(Now() - start, absl::Seconds(10));
  }
}

}  // namespace
}  // namespace tandem
