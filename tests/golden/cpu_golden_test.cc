#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/device/reference/reference.h"
#include "tests/golden/encoder_golden.h"
#include "tests/golden/golden_case.h"
#include "tests/golden/golden_run.h"

namespace tandem {
namespace {

// Float32 activations, any weights.
constexpr double kBound = 0.01;
// Our own float32 reference model.
constexpr double kReferenceBound = 1e-3;
// Int8 activations: reported, and far from this.
constexpr double kMeanKlBound = 0.05;

class CpuGolden : public testing::TestWithParam<std::filesystem::path> {
 protected:
  void SetUp() override {
    auto set = LoadGoldenSet(GetParam());
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = *std::move(set);
    auto device = CreateCpuDevice({});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  GoldenDifference Run(const GoldenVariant& variant) {
    const auto difference = RunGolden(device_.get(), set_, variant);
    EXPECT_TRUE(difference.ok()) << difference.status();
    if (!difference.ok()) return {};
    std::printf("%s\n", DescribeGolden(*device_, set_, variant, *difference).c_str());
    EXPECT_GT(difference->positions, 0);
    return *difference;
  }

  void ExpectEqual(const GoldenVariant& variant) {
    const GoldenDifference difference = Run(variant);
    EXPECT_LE(difference.max_top10, kBound);
    EXPECT_EQ(difference.greedy_different, 0);
  }

  GoldenSet set_;
  std::unique_ptr<Device> device_;
};

TEST_P(CpuGolden, ReferenceModelEqualsTransformers) {
  const auto regions = GoldenRegions(set_, WeightFormat::kBf16);
  ASSERT_TRUE(regions.ok()) << regions.status();
  const auto reference = ReferenceModel::Make(set_.config, *regions);
  ASSERT_TRUE(reference.ok()) << reference.status();
  GoldenDifference difference;
  for (const GoldenPrompt& prompt : set_.prompts) {
    AddDifference(prompt.expected, reference->Logits(prompt.ids), set_.config.vocab_size,
                  &difference);
  }
  FinishDifference(&difference);
  std::printf("golden device=reference set=%s positions=%d max_top10=%.6f mean_kl=-\n",
              set_.name.c_str(), static_cast<int>(difference.positions), difference.max_top10);
  EXPECT_GT(difference.positions, 0);
  EXPECT_LE(difference.max_top10, kReferenceBound);
}

TEST_P(CpuGolden, Bf16) { ExpectEqual({}); }
TEST_P(CpuGolden, Bf16TokenByToken) { ExpectEqual({.chunk = 1}); }
TEST_P(CpuGolden, Bf16Float16Cache) { ExpectEqual({.kv_type = KvType::kFloat16}); }
TEST_P(CpuGolden, Int8Int8Cache) {
  const GoldenVariant variant{.format = WeightFormat::kInt8, .kv_type = KvType::kInt8};
  EXPECT_LT(Run(variant).mean_kl, kMeanKlBound);
}
TEST_P(CpuGolden, Int8) { ExpectEqual({.format = WeightFormat::kInt8}); }
TEST_P(CpuGolden, Int4) { ExpectEqual({.format = WeightFormat::kInt4}); }

TEST_P(CpuGolden, Bf16StageForEachHalf) { ExpectEqual({.stages = OneStagePerHalf(set_.config)}); }

TEST_P(CpuGolden, HiddenStates) { ExpectEqual({.chunk = 16, .from_hidden_states = true}); }

TEST_P(CpuGolden, Int8Activations) {
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
    const GoldenDifference difference =
        Run({.format = format, .activations = ActivationType::kInt8});
    EXPECT_LT(difference.mean_kl, kMeanKlBound);
  }
}

class CpuEncoderGolden : public testing::Test {
 protected:
  void SetUp() override {
    auto encoder = LoadGoldenEncoder();
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    encoder_ = *std::move(encoder);
    ASSERT_FALSE(encoder_.texts.empty());
  }
  void ExpectEqual(const GoldenVariant& variant, double bound) {
    auto device = CreateCpuDevice({});
    ASSERT_TRUE(device.ok()) << device.status();
    const auto difference = RunGoldenEncoder(device->get(), encoder_, variant);
    ASSERT_TRUE(difference.ok()) << difference.status();
    std::printf("encoder device=cpu set=%s weights=%s largest=%.6f\n", encoder_.set.name.c_str(),
                std::string(WeightFormatName(variant.format)).c_str(), *difference);
    EXPECT_LE(*difference, bound);
  }
  GoldenEncoder encoder_;
};

// Values of embeddings of length 1.
TEST_F(CpuEncoderGolden, ReferenceModelEqualsTransformers) {
  const auto difference = ReferenceGoldenEncoder(encoder_);
  ASSERT_TRUE(difference.ok()) << difference.status();
  std::printf("encoder device=reference set=%s largest=%.6f\n", encoder_.set.name.c_str(),
              *difference);
  EXPECT_LE(*difference, 1e-5);
}
TEST_F(CpuEncoderGolden, Bf16) { ExpectEqual({}, 1e-4); }
TEST_F(CpuEncoderGolden, Float16Cache) { ExpectEqual({.kv_type = KvType::kFloat16}, 2e-3); }
TEST_F(CpuEncoderGolden, Int8) { ExpectEqual({.format = WeightFormat::kInt8}, 1e-4); }
TEST_F(CpuEncoderGolden, Int4) { ExpectEqual({.format = WeightFormat::kInt4}, 1e-4); }
TEST_F(CpuEncoderGolden, StageForEachHalf) {
  ExpectEqual({.stages = OneStagePerHalf(encoder_.set.config)}, 1e-4);
}
TEST_F(CpuEncoderGolden, Int8Activations) {
  ExpectEqual({.format = WeightFormat::kInt8, .activations = ActivationType::kInt8}, 0.05);
}

// No golden set would be no test at all.
TEST(CpuGoldenSets, AreThere) { EXPECT_FALSE(FindGoldenSets().empty()); }

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CpuGolden);
INSTANTIATE_TEST_SUITE_P(Sets, CpuGolden, testing::ValuesIn(FindGoldenSets()),
                         [](const auto& info) { return GoldenSetName(info.param); });

}  // namespace
}  // namespace tandem
