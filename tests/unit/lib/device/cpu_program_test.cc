#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/device/conformance/model_runner.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/weights/random_model.h"
#include "tests/unit/lib/device/counting_new.h"

namespace tandem {
namespace {

using testing::HasSubstr;

ModelConfig Config(std::int32_t hidden, std::int32_t ffn) {
  ModelConfig config;
  config.name = "test";
  config.vocab_size = 512;
  config.hidden_size = hidden;
  config.ffn_size = ffn;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 1;
  config.head_dim = 64;
  config.max_positions = 4096;
  config.sliding_window = 24;
  config.query_pre_attn_scalar = 64;
  config.layer_is_global = {false, true};
  return config;
}

struct World {
  std::unique_ptr<Device> device;
  std::vector<std::shared_ptr<const Region>> regions;
  std::unique_ptr<ModelRunner> runner;
};

void Make(const ModelConfig& config, WeightFormat format, const RunnerOptions& options,
          World* world) {
  auto device = CreateCpuDevice({.threads = 2});
  ASSERT_TRUE(device.ok()) << device.status();
  world->device = *std::move(device);
  auto model = MakeRandomModel(config, format, 5);
  ASSERT_TRUE(model.ok()) << model.status();
  for (const auto& [name, region] : model->regions) world->regions.push_back(region);
  auto runner = ModelRunner::Make(world->device.get(), config, world->regions, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  world->runner = *std::move(runner);
}

TEST(CpuProgram, SubmitAndWaitAllocateNothing) {
  for (const ActivationType activations : {ActivationType::kFloat32, ActivationType::kInt8}) {
    World world;
    ASSERT_NO_FATAL_FAILURE(
        Make(Config(256, 512), WeightFormat::kInt4, {.activations = activations}, &world));
    Program* program = world.runner->program();
    for (int round = 0; round < 5; ++round) {
      const RunnerShare shares[] = {{0, std::vector<std::int32_t>(round == 2 ? 30 : 1, 7)},
                                    {1, {1, 2, 3}}};
      const Step& step = world.runner->Prepare(shares);
      if (round > 0) StartCountingAllocations();
      const std::int32_t context = round % 2;
      const absl::Status begun = program->Begin(context, step);
      const auto ticket = program->Submit(0, context, 0, 0);
      const absl::Status done =
          ticket.ok() ? program->Wait(*ticket, Deadline::After(absl::Minutes(1))) : ticket.status();
      const int allocations = StopCountingAllocations();
      ASSERT_TRUE(begun.ok() && done.ok()) << begun << done;
      EXPECT_EQ(allocations, 0) << "round " << round;
      world.runner->Commit();
    }
  }
}

// The counter above counts.
TEST(CpuProgram, TheAllocationCounterWorks) {
  StartCountingAllocations();
  const auto allocated = std::make_unique<std::vector<int>>(100);
  EXPECT_GE(StopCountingAllocations(), 2);
}

TEST(CpuProgram, CancelStopsALongStepEarly) {
  World world;
  const RunnerOptions options{.limits = {.max_tokens = 512,
                                         .max_sequences = 1,
                                         .max_logit_rows = 512,
                                         .max_blocks_per_sequence = 32}};
  ASSERT_NO_FATAL_FAILURE(Make(Config(1024, 4096), WeightFormat::kInt8, options, &world));
  Program* program = world.runner->program();
  const RunnerShare share{0, std::vector<std::int32_t>(512, 3)};
  ASSERT_TRUE(program->Begin(0, world.runner->Prepare({&share, 1})).ok());
  const auto ticket = program->Submit(0, 0, 0, 0);
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  program->Cancel();
  const absl::Status done = program->Wait(*ticket, Deadline::Never());
  EXPECT_TRUE(absl::IsCancelled(done)) << done;
  const RunnerShare small{0, {1}};
  EXPECT_TRUE(world.runner->Step({&small, 1}).ok());
}

TEST(CpuProgram, DestroyingARunningProgramStopsIt) {
  World world;
  ASSERT_NO_FATAL_FAILURE(Make(Config(256, 512), WeightFormat::kBf16, {}, &world));
  const RunnerShare share{0, std::vector<std::int32_t>(64, 3)};
  Program* program = world.runner->program();
  ASSERT_TRUE(program->Begin(0, world.runner->Prepare({&share, 1})).ok());
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(program->Submit(0, 0, 0, 0).ok());
  world.runner.reset();
  EXPECT_TRUE(world.device->Probe().ok());
}

// Programs of one device, submitted at once run one after another, and each gives its own answer.
TEST(CpuProgram, ProgramsShareTheDevice) {
  World world;
  ASSERT_NO_FATAL_FAILURE(Make(Config(256, 512), WeightFormat::kInt8, {}, &world));
  auto other = ModelRunner::Make(world.device.get(), Config(256, 512), world.regions, {});
  ASSERT_TRUE(other.ok()) << other.status();
  const RunnerShare share{0, {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  const auto expected = world.runner->Step({&share, 1});
  ASSERT_TRUE(expected.ok());
  world.runner->End(0);
  for (int i = 0; i < 20; ++i) {
    std::thread thread([&] {
      const auto found = (*other)->Step({&share, 1});
      EXPECT_TRUE(found.ok() && *found == *expected);
      (*other)->End(0);
    });
    const auto found = world.runner->Step({&share, 1});
    EXPECT_TRUE(found.ok() && *found == *expected);
    world.runner->End(0);
    thread.join();
  }
}

TEST(CpuDevice, SaysWhatItIs) {
  const auto device = CreateCpuDevice({.threads = 3});
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->info().kind, "cpu");
  EXPECT_THAT((*device)->info().name, HasSubstr("3 threads"));
  EXPECT_TRUE((*device)->info().unified_memory);
  EXPECT_EQ(CreateCpuDevice({.threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CpuDevice, RefusesInt8ActivationsForBf16Weights) {
  auto device = CreateCpuDevice({});
  auto model = MakeRandomModel(Config(64, 64), WeightFormat::kBf16, 5);
  ASSERT_TRUE(device.ok() && model.ok());
  std::vector<std::shared_ptr<const Region>> regions;
  for (const auto& [name, region] : model->regions) regions.push_back(region);
  const auto runner = ModelRunner::Make(device->get(), model->config, regions,
                                        {.activations = ActivationType::kInt8});
  EXPECT_EQ(runner.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(runner.status().message()), HasSubstr("layers.0.attention.query"));
  EXPECT_THAT(std::string(runner.status().message()), HasSubstr("bf16"));
}

// Prompts of one token and of several, with and without scales in the weights.
TEST(CpuDevice, AutoActivationsAreInt8WhereWeightsAreQuantised) {
  const auto logits = [](WeightFormat format, ActivationType activations, std::int32_t chunk) {
    World world;
    Make(Config(256, 512), format, {.activations = activations}, &world);
    const std::vector<std::int32_t> prompt = {1, 2, 3, 4, 5};
    const auto found = world.runner->Prefill(0, prompt, chunk);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.value_or(std::vector<float>());
  };
  using enum ActivationType;
  for (const std::int32_t chunk : {1, 5}) {
    for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kInt4}) {
      EXPECT_EQ(logits(format, kAuto, chunk), logits(format, kInt8, chunk));
      EXPECT_NE(logits(format, kAuto, chunk), logits(format, kFloat32, chunk));
    }
    EXPECT_EQ(logits(WeightFormat::kBf16, kAuto, chunk),
              logits(WeightFormat::kBf16, kFloat32, chunk));
  }
}

}  // namespace
}  // namespace tandem
