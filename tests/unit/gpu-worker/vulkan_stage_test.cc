// Steps that are longer than one job: the device is declared so slow that every kernel is a job of
// its own.
#include "gpu-worker/stage/vulkan_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "gpu-worker/vulkan/instance.h"
#include "lib/device/reference/reference.h"
#include "lib/weights/random_model.h"
#include "tests/unit/gpu-worker/test_device.h"

namespace tandem {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.name = "small";
  config.vocab_size = 1000;
  config.hidden_size = 64;
  config.ffn_size = 96;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 32;
  config.max_positions = 1024;
  config.sliding_window = 16;
  config.query_pre_attn_scalar = 32;
  config.layer_is_global = {false, true};
  return config;
}

// From every chunk that a narrow device cuts the embedding into.
constexpr std::int32_t kTokens[] = {5, 517, 3, 999, 0};

class VulkanStageTest : public testing::Test {
 protected:
  void SetUp() override {
    HasValidationLayer();  // loads the drivers for good
    auto instance = vulkan::Instance::Create(
        HasValidationLayer(), [this](std::string_view text) { messages_.emplace_back(text); });
    ASSERT_TRUE(instance.ok()) << instance.status();
    instance_ = *std::move(instance);
    const auto devices = vulkan::ListPhysicalDevices(instance_->handle());
    ASSERT_TRUE(devices.ok() && !devices->empty()) << devices.status();
    vulkan::PhysicalDevice physical = devices->front();
    Narrow(&physical);
    auto device = vulkan::LogicalDevice::Create(physical);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    pipelines_ = std::make_unique<PipelineLibrary>(*device_);
    const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kInt8, 5);
    ASSERT_TRUE(model.ok()) << model.status();
    config_ = model->config;
    const bool upload = !physical.unified_memory();
    for (const auto& [name, region] : model->regions) {
      regions_.push_back(region);
      auto weights = VulkanWeights::Create(*device_, region, upload);
      ASSERT_TRUE(weights.ok()) << weights.status();
      weights_.push_back(*std::move(weights));
    }
    auto cache = VulkanKvCache::Create(*device_, config_,
                                       {.layers = {0, 1}, .global_blocks = 2, .window_blocks = 2});
    ASSERT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
  }

  void TearDown() override {
    weights_.clear();
    cache_.reset();
    pipelines_.reset();
    device_.reset();
    EXPECT_THAT(messages_, testing::IsEmpty());
  }

  // Lowers limits of the device.
  virtual void Narrow(vulkan::PhysicalDevice*) {}

  // The whole model as one stage. `tuning` outlives it.
  std::unique_ptr<VulkanStage> Compile(const Tuning& tuning) {
    const DeviceContext context{*device_, *pipelines_, tuning};
    CompileOptions options;
    options.limits = {
        .max_tokens = 8, .max_sequences = 1, .max_logit_rows = 2, .max_blocks_per_sequence = 2};
    auto stage = VulkanStage::Create(context, config_,
                                     {.embed = true, .first_half = 0, .last_half = 4, .head = true},
                                     {.weights = weights_, .kv_cache = cache_.get()}, options);
    EXPECT_TRUE(stage.ok()) << stage.status();
    return stage.ok() ? *std::move(stage) : nullptr;
  }

  absl::StatusOr<Ticket> Submit(VulkanStage& stage) {
    static constexpr std::int32_t kBlocks[] = {1};
    static constexpr std::int32_t kRows[] = {1, 4};
    const StepSequence sequence{0, 0, 5, 0, kBlocks, kBlocks};
    return stage.Submit({7, kTokens, {&sequence, 1}, kRows}, 0, 0);
  }

  std::vector<float> Run(VulkanStage& stage) {
    const auto ticket = Submit(stage);
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (!ticket.ok()) return {};
    const absl::Status done = stage.Wait(*ticket, absl::Now() + absl::Seconds(60));
    EXPECT_TRUE(done.ok()) << done;
    return {stage.logits().begin(), stage.logits().end()};
  }

  std::uint64_t submissions() const { return device_->counters().submissions.load(); }
  Tuning Slow() const {
    Tuning tuning = TuningFor(device_->physical());
    tuning.flops_per_second = tuning.bytes_per_second = 1;
    return tuning;
  }

  std::vector<std::string> messages_;
  std::unique_ptr<vulkan::Instance> instance_;
  std::unique_ptr<vulkan::LogicalDevice> device_;
  std::unique_ptr<PipelineLibrary> pipelines_;
  ModelConfig config_;
  std::vector<std::shared_ptr<const Region>> regions_;
  std::vector<std::shared_ptr<const Weights>> weights_;
  std::unique_ptr<VulkanKvCache> cache_;
};

TEST_F(VulkanStageTest, ManyJobsGiveTheAnswerOfOne) {
  const Tuning fast = TuningFor(device_->physical());
  const Tuning slow = Slow();
  const auto one = Compile(fast);
  const auto many = Compile(slow);
  ASSERT_TRUE(one != nullptr && many != nullptr);
  const std::uint64_t before = submissions();
  const std::vector<float> expected = Run(*one);
  const std::uint64_t middle = submissions();
  EXPECT_EQ(middle - before, 1u);
  EXPECT_EQ(expected.size(), 2000u);
  EXPECT_EQ(Run(*many), expected);
  // Two layers of 5 + 3 products and kernels at least, embedding, norm and head.
  EXPECT_GT(submissions() - middle, 20u);
  EXPECT_EQ(Run(*many), expected);
}

TEST_F(VulkanStageTest, CancelSendsNoFurtherJobs) {
  const Tuning slow = Slow();
  const auto stage = Compile(slow);
  ASSERT_NE(stage, nullptr);
  const std::vector<float> expected = Run(*stage);
  const std::uint64_t before = submissions();
  const auto ticket = Submit(*stage);
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  stage->Cancel();
  const absl::Status done = stage->Wait(*ticket, absl::Now() + absl::Seconds(60));
  EXPECT_TRUE(absl::IsCancelled(done)) << done;
  EXPECT_EQ(submissions() - before, 2u);
  EXPECT_TRUE(stage->logits().empty());
  EXPECT_EQ(Run(*stage), expected);
}

TEST_F(VulkanStageTest, GoesAwayWhileAStepRuns) {
  const Tuning slow = Slow();
  const auto stage = Compile(slow);
  ASSERT_NE(stage, nullptr);
  EXPECT_TRUE(Submit(*stage).ok());
}

TEST_F(VulkanStageTest, TicketsOfOtherStepsAreRefused) {
  const Tuning fast = TuningFor(device_->physical());
  const auto stage = Compile(fast);
  ASSERT_NE(stage, nullptr);
  EXPECT_EQ(stage->Wait({0}, absl::InfiniteFuture()).code(), absl::StatusCode::kInvalidArgument);
  Run(*stage);
  EXPECT_EQ(stage->Wait({9}, absl::InfiniteFuture()).code(), absl::StatusCode::kInvalidArgument);
}

// A device that binds and allocates little: matrices in chunks, regions in windows.
class NarrowDeviceTest : public VulkanStageTest {
 protected:
  void Narrow(vulkan::PhysicalDevice* device) override {
    device->limits.maxStorageBufferRange = 20000;  // 256 rows of the embedding, of 1000
    device->max_allocation_bytes = 32768;
  }
};

TEST_F(NarrowDeviceTest, ChunksAndWindowsGiveTheReferencesAnswer) {
  const Tuning tuning = TuningFor(device_->physical());
  const auto stage = Compile(tuning);
  ASSERT_NE(stage, nullptr);
  const auto* embedding = static_cast<const VulkanWeights*>(weights_.front().get());
  for (const auto& weights : weights_) {
    if (weights->manifest().name == "embedding") {
      embedding = static_cast<const VulkanWeights*>(weights.get());
    }
  }
  const auto tensor = embedding->Find({TensorKind::kEmbedding, -1});
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ((*tensor)->chunks.size(), 4u);
  EXPECT_NE((*tensor)->chunks[0].values.buffer, (*tensor)->chunks[3].values.buffer);
  const std::vector<float> found = Run(*stage);
  const auto reference = ReferenceModel::Make(config_, regions_);
  ASSERT_TRUE(reference.ok()) << reference.status();
  const std::vector<float> logits = reference->Logits(kTokens);
  ASSERT_EQ(found.size(), 2000u);
  for (std::size_t i = 0; i < 1000; ++i) {
    ASSERT_NEAR(found[i], logits[1000 + i], 1e-4 * (1 + std::abs(logits[1000 + i]))) << i;
    ASSERT_NEAR(found[1000 + i], logits[4000 + i], 1e-4 * (1 + std::abs(logits[4000 + i]))) << i;
  }
}

}  // namespace
}  // namespace tandem
