#include <cstdio>
#include <filesystem>
#include <memory>

#include "gtest/gtest.h"
#include "tests/golden/encoder_golden.h"
#include "tests/golden/golden_case.h"
#include "tests/golden/golden_run.h"
#include "tests/unit/gpu-worker/test_device.h"

namespace tandem {
namespace {

// Of log-probability.
constexpr double kBound = 0.02;
// With activations as suit the device; reported, and far from this.
constexpr double kMeanKlBound = 0.01;

class VulkanGolden : public testing::TestWithParam<std::filesystem::path> {
 protected:
  // One device for all: pipelines are compiled once.
  static void SetUpTestSuite() {
    auto device = MakeTestDevice();
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = std::move(*device).release();
  }
  static void TearDownTestSuite() {
    delete device_;
    device_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(device_, nullptr);
    auto set = LoadGoldenSet(GetParam());
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = *std::move(set);
  }

  void ExpectEqual(const GoldenVariant& variant) {
    const auto difference = RunGolden(device_, set_, variant);
    ASSERT_TRUE(difference.ok()) << difference.status();
    std::printf("%s\n", DescribeGolden(*device_, set_, variant, *difference).c_str());
    EXPECT_GT(difference->positions, 0);
    EXPECT_LE(difference->max_top10, kBound);
    EXPECT_EQ(difference->greedy_different, 0);
  }

  static Device* device_;
  GoldenSet set_;
};
Device* VulkanGolden::device_ = nullptr;

TEST_P(VulkanGolden, Bf16) { ExpectEqual({}); }
TEST_P(VulkanGolden, Bf16Float16Cache) { ExpectEqual({.kv_type = KvType::kFloat16}); }
TEST_P(VulkanGolden, Int8) { ExpectEqual({.format = WeightFormat::kInt8}); }
TEST_P(VulkanGolden, Int4) { ExpectEqual({.format = WeightFormat::kInt4}); }
TEST_P(VulkanGolden, Int8Int8Cache) {
  const GoldenVariant variant{.format = WeightFormat::kInt8, .kv_type = KvType::kInt8};
  const auto difference = RunGolden(device_, set_, variant);
  ASSERT_TRUE(difference.ok()) << difference.status();
  std::printf("%s\n", DescribeGolden(*device_, set_, variant, *difference).c_str());
  EXPECT_GT(difference->positions, 0);
  EXPECT_LT(difference->mean_kl, kMeanKlBound);
}
TEST_P(VulkanGolden, AutoActivations) {
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    for (const std::int32_t chunk : {16, 1}) {
      const GoldenVariant variant{
          .format = format, .activations = ActivationType::kAuto, .chunk = chunk};
      const auto difference = RunGolden(device_, set_, variant);
      ASSERT_TRUE(difference.ok()) << difference.status();
      std::printf("%s\n", DescribeGolden(*device_, set_, variant, *difference).c_str());
      EXPECT_GT(difference->positions, 0);
      EXPECT_LT(difference->mean_kl, kMeanKlBound);
    }
  }
}

TEST_P(VulkanGolden, Bf16StageForEachHalf) {
  ExpectEqual({.stages = OneStagePerHalf(set_.config), .chunk = 8});
}

TEST_P(VulkanGolden, HiddenStates) { ExpectEqual({.chunk = 16, .from_hidden_states = true}); }

TEST(VulkanEncoderGolden, EqualsTransformers) {
  const auto encoder = LoadGoldenEncoder();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  auto device = MakeTestDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  const GoldenVariant variants[] = {
      {}, {.format = WeightFormat::kInt8}, {.stages = OneStagePerHalf(encoder->set.config)}};
  for (const GoldenVariant& variant : variants) {
    const auto difference = RunGoldenEncoder(device->get(), *encoder, variant);
    ASSERT_TRUE(difference.ok()) << difference.status();
    std::printf("encoder device=vulkan set=%s weights=%s largest=%.6f\n", encoder->set.name.c_str(),
                std::string(WeightFormatName(variant.format)).c_str(), *difference);
    EXPECT_LE(*difference, 1e-4);
  }
}

// No golden set would be no test at all.
TEST(VulkanGoldenSets, AreThere) { EXPECT_FALSE(FindGoldenSets().empty()); }

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(VulkanGolden);
INSTANTIATE_TEST_SUITE_P(Sets, VulkanGolden, testing::ValuesIn(FindGoldenSets()),
                         [](const auto& info) { return GoldenSetName(info.param); });

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  tandem::CheckValidationAtEnd();
  return RUN_ALL_TESTS();
}
