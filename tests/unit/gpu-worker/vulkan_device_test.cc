// What is the Vulkan device's own; the contract is tested by tests/conformance.
#include "gpu-worker/stage/vulkan_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/time.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/instance.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/physical_device.h"
#include "lib/base/shared_memory.h"
#include "lib/device/conformance/model_runner.h"
#include "lib/device/reference/reference.h"
#include "lib/weights/random_model.h"
#include "tests/unit/gpu-worker/test_device.h"
#include "tests/unit/lib/device/counting_new.h"

namespace tandem {
namespace {

using testing::HasSubstr;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.name = "small";
  config.vocab_size = 200;
  config.hidden_size = 64;
  config.ffn_size = 96;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 32;
  config.max_positions = 4096;
  config.sliding_window = 16;
  config.query_pre_attn_scalar = 32;
  config.layer_is_global = {false, true};
  return config;
}

std::vector<std::shared_ptr<const Region>> RegionsOf(const RandomModel& model) {
  std::vector<std::shared_ptr<const Region>> regions;
  for (const auto& [name, region] : model.regions) regions.push_back(region);
  return regions;
}

TEST(VulkanDevice, IsListedAsItReportsItself) {
  const auto device = MakeTestDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  const auto list = ListVulkanDevices();
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_FALSE(list->empty());
  EXPECT_EQ((*device)->info().kind, "vulkan");
  EXPECT_EQ((*device)->info().name, list->front().name);
  EXPECT_EQ((*device)->info().driver, list->front().driver);
  EXPECT_GT((*device)->info().memory_bytes, 0u);
}

TEST(VulkanDevice, MissingDeviceIsNotFound) {
  VulkanDeviceOptions options;
  options.device = "no such device";
  const auto device = CreateVulkanDevice(options);
  ASSERT_EQ(device.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("no such device"));
  EXPECT_THAT(std::string(device.status().message()), HasSubstr(ListVulkanDevices()->front().name));
}

TEST(VulkanDevice, ImportKindTellsHowWeightsCame) {
  const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kBf16, 1);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto device = MakeTestDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  const auto weights = (*device)->Import(model->regions.begin()->second, model->config);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->import_kind(),
            (*device)->info().unified_memory ? "host-pointer" : "upload to its own memory");
}

TEST(VulkanDevice, UploadedWeightsGiveTheSameAnswer) {
  const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kInt4, 2);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto regions = RegionsOf(*model);
  VulkanDeviceOptions options;
  options.device = "0";
  options.weight_import = WeightImport::kUpload;
  std::vector<std::vector<float>> answers;
  for (const bool upload : {false, true}) {
    const auto device = upload ? CreateVulkanDevice(options) : MakeTestDevice();
    ASSERT_TRUE(device.ok()) << device.status();
    const auto weights = (*device)->Import(regions.front(), model->config);
    ASSERT_TRUE(weights.ok()) << weights.status();
    if (upload) {
      EXPECT_THAT(std::string((*weights)->import_kind()), HasSubstr("upload"));
    }
    const auto runner = ModelRunner::Make(device->get(), model->config, regions, {});
    ASSERT_TRUE(runner.ok()) << runner.status();
    const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
    auto answer = (*runner)->Prefill(0, tokens, 8);
    ASSERT_TRUE(answer.ok()) << answer.status();
    answers.push_back(*std::move(answer));
  }
  EXPECT_EQ(answers[0], answers[1]);
}

// The other end of an edge writes these pages without asking the driver: memory that is not
// coherent would show the device what it has cached.
TEST(VulkanBuffer, HostPointersAreImportedAsCoherentMemoryOnly) {
  const auto instance = vulkan::Instance::Create(/*validation=*/false, nullptr);
  ASSERT_TRUE(instance.ok()) << instance.status();
  const auto devices = vulkan::ListPhysicalDevices((*instance)->handle());
  ASSERT_TRUE(devices.ok() && !devices->empty());
  vulkan::PhysicalDevice physical = devices->front();
  if (physical.host_pointer_alignment == 0) GTEST_SKIP() << "no VK_EXT_external_memory_host";
  SharedMemory memory = *SharedMemory::Create("test", 1 << 16);
  const auto import = [&]() -> absl::Status {
    const auto device = vulkan::LogicalDevice::Create(physical);
    if (!device.ok()) return device.status();
    return vulkan::Buffer::ImportHost(**device, memory.mapping.data(), memory.bytes, "test")
        .status();
  };
  EXPECT_TRUE(import().ok()) << import();
  for (VkMemoryType& type : physical.memory.memoryTypes)
    type.propertyFlags &= ~static_cast<VkMemoryPropertyFlags>(VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
  EXPECT_EQ(import().code(), absl::StatusCode::kNotFound) << import();
}

TEST(VulkanDevice, RefusesWhatItCannotDo) {
  const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kInt8, 3);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto device = MakeTestDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  RunnerOptions options;
  options.activations = ActivationType::kInt8;
  const auto int8 = ModelRunner::Make(device->get(), model->config, RegionsOf(*model), options);
  EXPECT_EQ(int8.status().code(), absl::StatusCode::kUnimplemented) << int8.status();
  const auto huge = (*device)->CreateKvCache(
      model->config, {.layers = {1}, .global_blocks = 1 << 30, .window_blocks = 1});
  EXPECT_EQ(huge.status().code(), absl::StatusCode::kUnimplemented) << huge.status();
  const auto unordered = (*device)->CreateKvCache(
      model->config, {.layers = {1, 0}, .global_blocks = 1, .window_blocks = 1});
  EXPECT_EQ(unordered.status().code(), absl::StatusCode::kInvalidArgument) << unordered.status();
}

// What docs/vulkan.md says of bits: they depend on the step's bucket of tokens, not on what the
// other tokens are, where they stand or how many of the bucket are used.
TEST(VulkanDevice, NeighboursInABucketDoNotChangeBits) {
  const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kInt4, 6);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto device = MakeTestDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  const auto created = ModelRunner::Make(device->get(), model->config, RegionsOf(*model), {});
  ASSERT_TRUE(created.ok()) << created.status();
  ModelRunner& runner = **created;
  // Logits of the token 9 in slot 0, after the same prefill, beside so many tokens of slot 1.
  const auto beside = [&](std::int32_t neighbours, std::int32_t seed, bool first) {
    const std::vector<std::int32_t> prompt = {3, 1, 4, 1, 5};
    EXPECT_TRUE(runner.Prefill(0, prompt, 8).ok());
    RunnerShare mine{0, {9}};
    RunnerShare other{1, {}};
    for (std::int32_t i = 0; i < neighbours; ++i) other.tokens.push_back((seed + 7 * i) % 200);
    std::vector<RunnerShare> shares = {mine, other};
    if (!first) std::swap(shares[0], shares[1]);
    const auto logits = runner.Step(shares);
    EXPECT_TRUE(logits.ok()) << logits.status();
    runner.End(0);
    runner.End(1);
    if (!logits.ok()) return std::vector<float>();
    const auto row = logits->begin() + (first ? 0 : neighbours) * 200;
    return std::vector<float>(row, row + 200);
  };
  for (const std::int32_t tokens : {4, 8, 16, 32}) {
    const std::vector<float> expected = beside(tokens - 1, 11, true);
    ASSERT_EQ(expected.size(), 200u);
    EXPECT_EQ(beside(tokens - 1, 150, true), expected) << tokens;
    EXPECT_EQ(beside(tokens - 1, 11, false), expected) << tokens;
    EXPECT_EQ(beside(tokens / 2, 30, true), expected) << tokens;
  }
}

// In steady state nothing is allocated on the host either. Without the validation layer, which
// allocates for itself.
TEST(VulkanDevice, StepsAllocateNothingOnTheHost) {
  const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kInt4, 7);
  ASSERT_TRUE(model.ok()) << model.status();
  VulkanDeviceOptions options;
  options.device = "0";
  const auto device = CreateVulkanDevice(options);
  ASSERT_TRUE(device.ok()) << device.status();
  const auto created = ModelRunner::Make(device->get(), model->config, RegionsOf(*model), {});
  ASSERT_TRUE(created.ok()) << created.status();
  ModelRunner& runner = **created;
  Program* program = runner.program();
  for (int round = 0; round < 6; ++round) {
    const RunnerShare shares[] = {{0, std::vector<std::int32_t>(round % 2 == 1 ? 30 : 1, 7)},
                                  {1, {1, 2, 3}}};
    const Step& step = runner.Prepare(shares);
    const std::int32_t context = round / 2 % 2;
    // The first rounds take every bucket once: drivers compile at the first use.
    if (round > 1) StartCountingAllocations();
    const absl::Status begun = program->Begin(context, step);
    const auto ticket = program->Submit(0, context, 0, 0);
    const absl::Status done =
        ticket.ok() ? program->Wait(*ticket, Deadline::After(absl::Minutes(1))) : ticket.status();
    const int allocations = StopCountingAllocations();
    ASSERT_TRUE(begun.ok() && done.ok()) << begun << done;
    if (round > 1) {
      EXPECT_EQ(allocations, 0) << "round " << round;
    }
    runner.Commit();
  }
}

TEST(VulkanDevice, FarContextEqualsTheReference) {
  // Several rounds of keys in attention, and a window that has long left its first blocks.
  const auto model = MakeRandomModel(SmallConfig(), WeightFormat::kBf16, 4);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto regions = RegionsOf(*model);
  const auto device = MakeTestDevice();
  ASSERT_TRUE(device.ok()) << device.status();
  RunnerOptions options;
  options.limits.max_blocks_per_sequence = 32;
  const auto runner = ModelRunner::Make(device->get(), model->config, regions, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < 300; ++i) tokens.push_back((i * 31 + 7) % 200);
  const auto found = (*runner)->Prefill(0, tokens, 64);
  ASSERT_TRUE(found.ok()) << found.status();
  const auto reference = ReferenceModel::Make(model->config, regions);
  ASSERT_TRUE(reference.ok()) << reference.status();
  const std::vector<float> expected = reference->Logits(tokens);
  ASSERT_EQ(found->size(), expected.size());
  float largest = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR((*found)[i], expected[i], 1e-4 * static_cast<double>(largest)) << i;
  }
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  tandem::CheckValidationAtEnd();
  return RUN_ALL_TESTS();
}
