#include "gpu-worker/stage/tuning.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

vulkan::PhysicalDevice Of(std::uint32_t vendor, VkPhysicalDeviceType type) {
  vulkan::PhysicalDevice device;
  device.vendor_id = vendor;
  device.type = type;
  return device;
}

TEST(Tuning, FirstRowThatMatches) {
  EXPECT_EQ(TuningFor(Of(0x1002, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)).name, "amd");
  EXPECT_EQ(TuningFor(Of(0x10de, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU)).name, "nvidia");
  EXPECT_EQ(TuningFor(Of(0x10005, VK_PHYSICAL_DEVICE_TYPE_CPU)).name, "software");
  EXPECT_EQ(TuningFor(Of(0x8086, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)).name, "generic");
}

// What the kernel takes for granted.
TEST(Tuning, MatvecShapesAreSound) {
  for (const std::uint32_t vendor : {0x1002u, 0x10deu, 0x8086u}) {
    const Tuning& tuning = TuningFor(Of(vendor, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU));
    for (const std::uint32_t rows : {1u, 100u, 5376u, 262144u}) {
      for (const std::uint32_t tokens : {1u, 2u, 4u, 8u}) {
        const MatvecShape shape = ChooseMatvecShape(tuning, rows, tokens);
        EXPECT_EQ(shape.group % shape.lanes, 0u);
        EXPECT_GE(shape.rows, 1u);
        EXPECT_LE(shape.rows * tokens, 16u);
        EXPECT_EQ(shape.tokens, tokens);
        // 16 KiB of shared memory are all that Vulkan promises.
        EXPECT_LE(shape.rows * tokens * shape.group * 4, 16384u);
      }
    }
  }
}

TEST(Tuning, FewRowsGetMoreLanes) {
  const Tuning& tuning = TuningFor(Of(0x10de, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU));
  EXPECT_LT(ChooseMatvecShape(tuning, 262144, 1).lanes, ChooseMatvecShape(tuning, 4096, 1).lanes);
}

}  // namespace
}  // namespace tandem
