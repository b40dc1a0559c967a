#include "gpu-worker/stage/tuning.h"

#include <gtest/gtest.h>

#include "gpu-worker/stage/program_memory.h"
#include "gpu-worker/stage/tile_attention.h"

namespace tandem {
namespace {

vulkan::PhysicalDevice Of(std::uint32_t vendor, VkPhysicalDeviceType type) {
  vulkan::PhysicalDevice device;
  device.vendor_id = vendor;
  device.type = type;
  device.limits.maxComputeWorkGroupInvocations = 1024;
  device.limits.maxComputeSharedMemorySize = 49152;
  return device;
}

TEST(Tuning, FirstRowThatMatches) {
  EXPECT_EQ(TuningFor(Of(0x1002, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)).name, "amd");
  EXPECT_EQ(TuningFor(Of(0x10de, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU)).name, "nvidia");
  EXPECT_EQ(TuningFor(Of(0x10005, VK_PHYSICAL_DEVICE_TYPE_CPU)).name, "software");
  EXPECT_EQ(TuningFor(Of(0x8086, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)).name, "generic");
}

TEST(Tuning, IsCutToTheLeastThatVulkanPromises) {
  vulkan::PhysicalDevice device = Of(0x10de, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU);
  device.limits.maxComputeWorkGroupInvocations = 128;
  device.limits.maxComputeSharedMemorySize = 16384;
  const Tuning tuning = TuningFor(device);
  EXPECT_EQ(tuning.norm_lanes, 128u);
  EXPECT_EQ(tuning.attention_parts, 2u);
  EXPECT_LE(tuning.matvec_packed.group, 128u);
  for (const std::uint32_t tokens : {1u, 8u}) {
    EXPECT_LE(MatvecSharedBytes(ChooseMatvecShape(tuning.matvec_packed, 5376, 168, 8, tokens), 8),
              16384u);
  }
}

// What the kernel takes for granted.
void ExpectSound(const MatvecTuning& tuning, std::uint32_t rows, std::uint32_t blocks,
                 std::uint32_t block_vecs, std::uint32_t tokens) {
  const MatvecShape shape = ChooseMatvecShape(tuning, rows, blocks, block_vecs, tokens);
  EXPECT_EQ(shape.group % shape.lanes, 0u);
  EXPECT_EQ(shape.tile_blocks % shape.lanes, 0u);
  EXPECT_EQ(shape.tile_blocks == 0, tuning.shared == 0);
  EXPECT_GE(shape.rows, 1u);
  EXPECT_LE(shape.rows * tokens, 16u);
  EXPECT_EQ(shape.tokens, tokens);
  EXPECT_LE(MatvecSharedBytes(shape, block_vecs), tuning.shared == 0 ? 16384 : tuning.shared);
}

TEST(Tuning, MatvecShapesAreSound) {
  for (const std::uint32_t vendor : {0x1002u, 0x10deu, 0x8086u}) {
    const Tuning tuning = TuningFor(Of(vendor, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU));
    for (const std::uint32_t rows : {1u, 100u, 5376u, 262144u}) {
      for (const std::uint32_t blocks : {1u, 11u, 168u, 5376u}) {
        for (const std::uint32_t tokens : {1u, 2u, 4u, 8u}) {
          ExpectSound(tuning.matvec_bf16, rows, blocks, 2, tokens);
          ExpectSound(tuning.matvec_packed, rows, blocks, 4, tokens);
          ExpectSound(tuning.matvec_packed, rows, blocks, 8, tokens);
        }
      }
    }
  }
}

TEST(Tuning, FewRowsGetMoreLanes) {
  const Tuning tuning = TuningFor(Of(0x10de, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU));
  EXPECT_LT(ChooseMatvecShape(tuning.matvec_packed, 262144, 168, 8, 1).lanes,
            ChooseMatvecShape(tuning.matvec_packed, 1024, 168, 8, 1).lanes);
}

// Few tokens share the keys of a head out, many share what they read of a key head.
TEST(Tuning, AttentionFillsTheDevice) {
  Tuning tuning;
  tuning.attention_parts = 8;
  tuning.attention_fill = 1u << 17;
  tuning.attention_groups = 64;
  tuning.attention_shared = 49152;
  EXPECT_EQ(ChooseAttentionShape(tuning, 32, 16, 1), (AttentionShape{8, 1}));
  EXPECT_EQ(ChooseAttentionShape(tuning, 32, 16, 16), (AttentionShape{8, 2}));
  EXPECT_EQ(ChooseAttentionShape(tuning, 32, 16, 64), (AttentionShape{2, 2}));
  EXPECT_EQ(ChooseAttentionShape(tuning, 32, 16, 512), (AttentionShape{1, 2}));
  // No more heads than share a key head.
  EXPECT_EQ(ChooseAttentionShape(tuning, 6, 2, 512).shared_heads, 1u);
  EXPECT_EQ(ChooseAttentionShape(tuning, 4, 1, 512).shared_heads, 4u);
  for (const std::uint32_t shared : {16384u, 32768u, 49152u}) {
    tuning.attention_shared = shared;
    for (const std::uint32_t rows : {1u, 4u, 16u, 512u}) {
      EXPECT_LE(AttentionSharedBytes(ChooseAttentionShape(tuning, 32, 4, rows)), shared);
    }
  }
}

TEST(TileAttention, WhereMatricesFit) {
  vulkan::PhysicalDevice device = Of(0x1002, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU);
  EXPECT_FALSE(MatrixAttentionFits(device, {32, 16, 128}, false)) << "no matrices";
  device.matrix = true;
  EXPECT_TRUE(MatrixAttentionFits(device, {32, 16, 128}, false));
  EXPECT_TRUE(MatrixAttentionFits(device, {8, 4, 256}, false));
  EXPECT_FALSE(MatrixAttentionFits(device, {16, 16, 128}, false)) << "heads share no keys";
  EXPECT_FALSE(MatrixAttentionFits(device, {32, 16, 64}, false));
  EXPECT_FALSE(MatrixAttentionFits(device, {32, 16, 128}, true)) << "48 KiB of shared memory";
  device.limits.maxComputeSharedMemorySize = 65536;
  EXPECT_TRUE(MatrixAttentionFits(device, {32, 16, 128}, true));
  EXPECT_FALSE(MatrixAttentionFits(device, {8, 4, 256}, true));
  device.limits.maxComputeSharedMemorySize = 32768;
  EXPECT_FALSE(MatrixAttentionFits(device, {8, 4, 256}, false));
}

TEST(TileAttention, PlainShapesShareEvenly) {
  for (const TileHeads& heads : {TileHeads{32, 16, 128}, {4, 1, 256}, {3, 1, 64}, {2, 2, 32}}) {
    const TileAttentionShape shape = PlainAttentionShape(heads);
    EXPECT_EQ(heads.heads / heads.kv_heads % shape.shared_heads, 0u);
    EXPECT_EQ(kernels::kTileTokens % shape.tokens, 0u);
    EXPECT_EQ(shape.tokens * shape.shared_heads, 8u);
  }
}

// A tile holds kMinTiledTokens, or follows a full one.
TEST(TileAttention, StepsHaveRoomForEveryTile) {
  for (std::uint32_t tokens = kernels::kMinTiledTokens; tokens <= 512; ++tokens) {
    const std::uint32_t of_one = (tokens + kernels::kTileTokens - 1) / kernels::kTileTokens;
    EXPECT_LE(of_one, MostTiles(tokens)) << tokens;
  }
}

}  // namespace
}  // namespace tandem
