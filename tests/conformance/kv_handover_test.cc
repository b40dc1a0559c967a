// A prompt on one device, its answer on another: keys and values pass between CPU and Vulkan in
// their one written form, through shared memory.
#include <algorithm>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "lib/device/conformance/conformance_cases.h"
#include "lib/device/cpu/cpu_device.h"
#include "tests/unit/gpu-worker/test_device.h"

namespace tandem {
namespace {

class KvHandoverTest : public ::testing::TestWithParam<KvType> {
 protected:
  void SetUp() override {
    auto cpu = CreateCpuDevice({.threads = 2});
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    cpu_ = *std::move(cpu);
    auto gpu = MakeTestDevice();
    ASSERT_TRUE(gpu.ok()) << gpu.status();
    gpu_ = *std::move(gpu);
    auto model = MakeConformanceModel(ConformanceConfig(), WeightFormat::kInt8);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  std::unique_ptr<ModelRunner> Runner(Device* device, std::uint32_t seed) {
    auto runner = ModelRunner::Make(device, model_.config, model_.regions,
                                    {.kv_type = GetParam(), .block_seed = seed});
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }
  static std::int32_t Best(const std::vector<float>& logits) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }

  // Prefill on `first`, decode on `second`, against everything on `second`.
  void Check(Device* first, Device* second) {
    const auto prefill = Runner(first, 3);
    const auto decode = Runner(second, 9);
    const auto alone = Runner(second, 27);
    ASSERT_TRUE(prefill != nullptr && decode != nullptr && alone != nullptr);
    const auto prompt = RandomTokens(model_.config, 70, 11);
    ASSERT_TRUE(prefill->Prefill(0, prompt, 32).ok());
    ASSERT_TRUE(alone->Prefill(0, prompt, 32).ok());
    const absl::Status moved = prefill->HandOver(0, decode.get());
    ASSERT_TRUE(moved.ok()) << moved;
    std::int32_t token = 17;
    for (int i = 0; i < 24; ++i) {
      const RunnerShare share = {0, {token}};
      const auto expected = alone->Step({&share, 1});
      const auto found = decode->Step({&share, 1});
      ASSERT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
      EXPECT_LT(Compare(*expected, *found).largest, GetParam() == KvType::kFloat32 ? 1e-4 : 1e-2);
      ASSERT_EQ(Best(*found), Best(*expected)) << "token " << i;
      token = Best(*expected);
    }
  }

  std::unique_ptr<Device> cpu_, gpu_;
  ConformanceModel model_;
};

TEST_P(KvHandoverTest, PromptOnTheCpuAnswerOnTheGpu) { Check(cpu_.get(), gpu_.get()); }
TEST_P(KvHandoverTest, PromptOnTheGpuAnswerOnTheCpu) { Check(gpu_.get(), cpu_.get()); }

INSTANTIATE_TEST_SUITE_P(Types, KvHandoverTest,
                         ::testing::Values(KvType::kFloat32, KvType::kFloat16, KvType::kInt8),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace tandem
