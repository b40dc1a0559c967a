#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gpu-worker/stage/chain.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_program.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "gpu-worker/vulkan/instance.h"
#include "lib/base/status_macros.h"
#include "lib/weights/random_model.h"
#include "tests/unit/gpu-worker/test_device.h"

namespace tandem {

// A small model's program on the device that is there.

inline ModelConfig SmallConfig() {
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
inline constexpr std::int32_t kTokens[] = {5, 517, 3, 999, 0};

class VulkanProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    // Loads the drivers for good.
    HasValidationLayer();
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
    const auto model = MakeRandomModel(Config(), Format(), 5);
    ASSERT_TRUE(model.ok()) << model.status();
    config_ = model->config;
    Uploader uploader(*device_);
    const bool upload = Uploads() || !physical.unified_memory();
    for (const auto& [name, region] : model->regions) {
      regions_.push_back(region);
      auto weights = VulkanWeights::Create(uploader, region, upload);
      ASSERT_TRUE(weights.ok()) << weights.status();
      weights_.push_back(*std::move(weights));
    }
    auto cache = VulkanKvCache::Create(*device_, config_,
                                       {.layers = {0, 1}, .global_blocks = 4, .window_blocks = 4});
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

  virtual ModelConfig Config() const { return SmallConfig(); }
  virtual WeightFormat Format() const { return WeightFormat::kInt8; }
  // Lowers limits of the device.
  virtual void Narrow(vulkan::PhysicalDevice*) {}
  // Whether weights are copied on unified memory too.
  virtual bool Uploads() const { return false; }

  // The whole model as one stage. `tuning` outlives it.
  std::unique_ptr<VulkanProgram> Compile(const Tuning& tuning, std::int32_t contexts = 2,
                                         DispatchTimer* timer = nullptr,
                                         ActivationType activations = ActivationType::kFloat32,
                                         ChainHealth* chain = nullptr) {
    const DeviceContext context{*device_, *pipelines_, tuning, false, timer, chain};
    ProgramSpec spec;
    spec.stages = {{{.embed = true, .first_half = 0, .last_half = 4, .head = true}}};
    spec.weights = weights_;
    spec.kv_cache = cache_.get();
    spec.limits = {
        .max_tokens = 8, .max_sequences = 3, .max_logit_rows = 2, .max_blocks_per_sequence = 2};
    spec.contexts = contexts;
    spec.activations = activations;
    auto program = VulkanProgram::Create(context, config_, spec);
    EXPECT_TRUE(program.ok()) << program.status();
    return program.ok() ? *std::move(program) : nullptr;
  }

  absl::StatusOr<Ticket> Submit(VulkanProgram& program, std::int32_t context = 0) {
    static constexpr std::int32_t kBlocks[] = {1};
    static constexpr std::int32_t kRows[] = {1, 4};
    const StepSequence sequence{0, 0, 5, 0, kBlocks, kBlocks};
    TANDEM_RETURN_IF_ERROR(program.Begin(context, {7, kTokens, {&sequence, 1}, kRows}));
    return program.Submit(0, context, 0, 0);
  }

  // Of one token behind those of Submit.
  static absl::StatusOr<Ticket> SubmitOne(VulkanProgram& program, std::int32_t context = 0) {
    static constexpr std::int32_t kBlocks[] = {1};
    static constexpr std::int32_t kToken[] = {42};
    static constexpr std::int32_t kRow[] = {0};
    const StepSequence sequence{0, 0, 1, 5, kBlocks, kBlocks};
    TANDEM_RETURN_IF_ERROR(program.Begin(context, {8, kToken, {&sequence, 1}, kRow}));
    return program.Submit(0, context, 0, 0);
  }

  // The same, and beside it the first tokens of two other sequences.
  static absl::StatusOr<Ticket> SubmitThree(VulkanProgram& program) {
    static constexpr std::int32_t kBlocks[] = {1, 2, 3};
    static constexpr std::int32_t kThree[] = {42, 7, 998};
    static constexpr std::int32_t kRows[] = {0, 2};
    const std::span<const std::int32_t> blocks(kBlocks);
    const StepSequence sequences[] = {{0, 0, 1, 5, blocks.first(1), blocks.first(1)},
                                      {1, 1, 1, 0, blocks.subspan(1, 1), blocks.subspan(1, 1)},
                                      {2, 2, 1, 0, blocks.last(1), blocks.last(1)}};
    TANDEM_RETURN_IF_ERROR(program.Begin(0, {9, kThree, sequences, kRows}));
    return program.Submit(0, 0, 0, 0);
  }

  static std::vector<float> LogitsOf(const VulkanProgram& program, std::int32_t context = 0) {
    return {program.logits(context).begin(), program.logits(context).end()};
  }

  static Deadline Soon() { return Deadline::After(absl::Seconds(60)); }

  std::vector<float> Run(VulkanProgram& program) { return Finish(program, Submit(program)); }
  std::vector<float> RunOne(VulkanProgram& program) { return Finish(program, SubmitOne(program)); }
  std::vector<float> RunThree(VulkanProgram& program) {
    return Finish(program, SubmitThree(program));
  }
  // The token of RunOne behind those of Run, which it sees.
  std::vector<float> RunOneToken(VulkanProgram& program) {
    EXPECT_EQ(Run(program).size(), 2000u);
    return RunOne(program);
  }
  static std::vector<float> Finish(VulkanProgram& program, const absl::StatusOr<Ticket>& ticket) {
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (!ticket.ok()) return {};
    const absl::Status done = program.Wait(*ticket, Soon());
    EXPECT_TRUE(done.ok()) << done;
    return LogitsOf(program);
  }

  // Logits of two orders of sums: an activation between two roundings may take the other one.
  static void ExpectAlike(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    float largest = 0;
    for (const float logit : expected) largest = std::max(largest, std::abs(logit));
    EXPECT_GT(largest, 0.01f);
    // Written so that NaN fails.
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_TRUE(std::abs(found[i] - expected[i]) <= 0.02f * largest) << i;
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

}  // namespace tandem
