#include "gateway/dispatch/cluster_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 6;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.max_positions = 4096;
  config.sliding_window = 64;
  config.layer_is_global = {false, false, false, false, false, true};
  return config;
}

KvPlanRequest Request() {
  KvPlanRequest request;
  request.context_tokens = 1024;
  request.limits.max_tokens = 32;
  request.limits.max_sequences = 8;
  request.memory_bytes = 64 << 20;
  return request;
}

TEST(KvPlan, CountsBlocksAndBytes) {
  const absl::StatusOr<KvPlan> plan = PlanKvCache(Config(), Request());
  ASSERT_TRUE(plan.ok());
  // A block of one layer: 2 x 16 tokens x 2 heads x 64 x 4 bytes = 16 KiB. A context: 64 blocks in
  // one layer, 8 in five.
  const std::uint64_t unit = 16384 * (64 * 1 + 8 * 5);
  EXPECT_EQ(plan->context_tokens, 1024);
  // max_sequences contexts fit.
  EXPECT_EQ(plan->global_blocks, 8 * 64);
  EXPECT_EQ(plan->window_blocks, 8 * 8);
  EXPECT_EQ(plan->bytes, 8 * unit);
}

TEST(KvPlan, MemoryBoundsTheNumberOfContexts) {
  KvPlanRequest request = Request();
  request.memory_bytes = std::uint64_t{16384} * (64 + 40) * 3 + 1;
  EXPECT_EQ(PlanKvCache(Config(), request)->global_blocks, 3 * 64);
  request.type = KvType::kFloat16;
  EXPECT_EQ(PlanKvCache(Config(), request)->global_blocks, 6 * 64);
}

TEST(KvPlan, OneContextIsGrantedUnlessTheLimitIsHard) {
  KvPlanRequest request = Request();
  request.memory_bytes = 1000;
  EXPECT_EQ(PlanKvCache(Config(), request)->global_blocks, 64);
  request.memory_is_hard = true;
  EXPECT_EQ(PlanKvCache(Config(), request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(KvPlan, TheWorkerWithTheLeastForItsLayersDecides) {
  // A context: 64 blocks of 16 KiB in each global layer, 8 in each other.
  const std::uint64_t global = 16384 * 64;
  const std::uint64_t window = 16384 * 8;
  const std::vector<KvWorker> workers = {{"a", 0, 3, 5 * 3 * window},
                                         {"b", 1, 2, 4 * (global + 2 * window) + 1}};
  KvPlanRequest request = Request();
  request.memory_bytes = 1;
  const absl::StatusOr<KvPlan> plan = PlanKvCacheOver(Config(), request, workers);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->global_blocks, 4 * 64);
  EXPECT_EQ(plan->window_blocks, 4 * 8);
  EXPECT_EQ(plan->bytes, 4 * (global + 5 * window));
}

TEST(KvPlan, AWorkerThatDoesNotHoldOneContextIsNamed) {
  const std::uint64_t unit = 16384 * (64 + 2 * 8);
  const absl::Status status =
      PlanKvCacheOver(Config(), Request(), {{"a", 0, 3, 1 << 30}, {"b", 1, 2, unit - 1}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "KV cache: one context of 1024 tokens needs 1 MiB on worker b, which has 1 MiB for it: "
            "lower --context, or say with --kv_memory how much to take all the same");
  EXPECT_TRUE(PlanKvCacheOver(Config(), Request(), {{"b", 1, 2, unit}}).ok());
}

TEST(KvPlan, MemoryOfADevice) {
  v1::DeviceDescription device;
  EXPECT_EQ(KvMemoryOf(device, 1 << 20), kDefaultKvMemoryBytes);
  device.set_budget_bytes(std::uint64_t{32} << 30);
  // The machine's memory: weights are not in its share.
  EXPECT_EQ(KvMemoryOf(device, std::uint64_t{15} << 30), std::uint64_t{32} << 30);
  device.set_own_memory(true);
  // A sixteenth and half a GiB for scratch.
  EXPECT_EQ(KvMemoryOf(device, std::uint64_t{15} << 30), (std::uint64_t{29} << 29));
  EXPECT_EQ(KvMemoryOf(device, std::uint64_t{40} << 30), 0);
}

TEST(KvPlan, LayersOfAWorker) {
  const std::vector<PlanWorker> workers = {{"a", WorkerRole::kGpu}, {"b", WorkerRole::kGpu}};
  const absl::StatusOr<Plan> plan = MakePlan("layers", Config(), workers);
  ASSERT_TRUE(plan.ok());
  const KvWorker a = KvLayersOf(*plan, Config(), "a");
  const KvWorker b = KvLayersOf(*plan, Config(), "b");
  EXPECT_EQ(a.global_layers, 0);
  EXPECT_EQ(a.window_layers, 3);
  EXPECT_EQ(b.global_layers, 1);
  EXPECT_EQ(b.window_layers, 2);
}

TEST(KvPlan, TheContextIsNeverLongerThanTheModels) {
  KvPlanRequest request = Request();
  request.context_tokens = 100000;
  EXPECT_EQ(PlanKvCache(Config(), request)->context_tokens, 4096);
  request.context_tokens = 0;
  EXPECT_FALSE(PlanKvCache(Config(), request).ok());
}

TEST(StagesAlternate, OnlyWhereAStepPassesBackAndForth) {
  ModelConfig config = Config();
  const std::vector<PlanWorker> workers = {{"npu0", WorkerRole::kNpu}, {"gpu0", WorkerRole::kGpu}};
  const auto alternates = [&](const char* plan, std::size_t route = 0) {
    return StagesAlternate(MakePlan(plan, config, workers)->routes.at(route));
  };
  EXPECT_TRUE(alternates("split"));
  EXPECT_FALSE(alternates("gpu"));
  EXPECT_FALSE(alternates("layers"));
  EXPECT_FALSE(alternates("hybrid", kDecodeRoute));
  EXPECT_TRUE(alternates("hybrid", kPrefillRoute));
}

TEST(MakeClusterPlan, EachRouteHasItsNumberOfMicroBatches) {
  const std::vector<ClusterWorker> workers = {{"npu0", WorkerRole::kNpu, "a"},
                                              {"gpu0", WorkerRole::kGpu, "b"}};
  const auto plan = [&](const char* name, std::int32_t micro_batches) {
    return *MakeClusterPlan(name, Config(), workers, micro_batches);
  };
  EXPECT_EQ(plan("hybrid", 0)->micro_batches, 1);
  EXPECT_EQ(plan("hybrid", 0)->prefill_micro_batches, 2);
  EXPECT_EQ(plan("hybrid", 0)->most_micro_batches(), 2);
  EXPECT_EQ(plan("hybrid", 3)->micro_batches, 3);
  EXPECT_EQ(plan("hybrid", 3)->prefill_micro_batches, 3);
  EXPECT_THAT(plan("hybrid", 0)->members, testing::ElementsAre(1, 1));
  EXPECT_EQ(plan("hybrid", 0)->head, 1u);
  EXPECT_EQ(plan("split", 0)->micro_batches, 2);
  // No route of its own.
  EXPECT_EQ(plan("split", 0)->prefill_micro_batches, 0);
}

// With room for all contexts, unless a test takes it away.
ClusterSetup SetupOf() {
  ClusterSetup setup;
  setup.model.config = Config();
  setup.kv_request = Request();
  setup.kv_request.limits.max_sequences = 2;
  setup.kv_request.context_tokens = 4096;
  setup.scheduler.limits = setup.kv_request.limits;
  setup.scheduler.limits.max_tokens = 600;
  setup.scheduler.context_tokens = 4096;
  setup.scheduler.vocab_size = setup.scheduler.hidden_size = 64;
  setup.scheduler.sliding_window = Config().sliding_window;
  setup.scheduler.global_blocks = setup.scheduler.window_blocks = 512;
  setup.kv_by_workers = true;
  return setup;
}

SharedPlan PlanNamed(const char* name, std::int32_t micro_batches = 0) {
  return *MakeClusterPlan(name, Config(),
                          {{"npu0", WorkerRole::kNpu, "a"}, {"gpu0", WorkerRole::kGpu, "b"}},
                          micro_batches);
}

TEST(SizePlan, PromptsWithARouteOfTheirOwnComeInLongerChunks) {
  const std::vector<KvWorker> roomy = {{"gpu0", 1, 5, std::uint64_t{1} << 30}};
  const auto limits = [&](const ClusterSetup& setup, const SharedPlan& plan) {
    const absl::StatusOr<PlanSizes> sizes = SizePlan(setup, *plan, roomy);
    EXPECT_TRUE(sizes.ok()) << sizes.status();
    return std::pair(sizes->limits.max_tokens, sizes->limits.max_decode_tokens);
  };
  ClusterSetup setup = SetupOf();
  EXPECT_EQ(limits(setup, PlanNamed("split")), std::pair(600, 0));
  // 1,024 for each of two micro-batches; decodes keep to what is usual.
  EXPECT_EQ(limits(setup, PlanNamed("hybrid")), std::pair(2048, 512));
  EXPECT_EQ(limits(setup, PlanNamed("hybrid", 1)), std::pair(1024, 512));
  setup.scheduler.limits.max_sequences = 550;
  setup.scheduler.limits.max_logit_rows = 550;
  EXPECT_EQ(limits(setup, PlanNamed("hybrid")), std::pair(2048, 550));
  // The cache has room for what a chunk sees: 64 + 2,048 tokens, and not 64 + 600.
  const absl::StatusOr<PlanSizes> sizes = SizePlan(setup, *PlanNamed("hybrid"), roomy);
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->kv.window_blocks, 2 * (132 + 2));
  // As long as somebody says.
  setup = SetupOf();
  setup.options.step_tokens_given = true;
  EXPECT_EQ(limits(setup, PlanNamed("hybrid")), std::pair(600, 512));
  // Nor longer than a message that somebody bounds.
  setup = SetupOf();
  setup.scheduler.max_step_bytes =
      SharesBytesBound(setup.scheduler.limits) + StartBytesBound({}, 4096);
  EXPECT_EQ(limits(setup, PlanNamed("hybrid")), std::pair(600, 512));
}

TEST(SizePlan, ChunksAreAsLongAsMemoryAllows) {
  // Blocks of 16 KiB: 256 in the global layer, and in five layers what a chunk sees.
  const auto bytes = [](std::uint64_t chunk) {
    return std::uint64_t{16384} * (256 + 5 * ((64 + chunk) / 16 + 2));
  };
  const auto tokens = [](std::uint64_t memory) {
    const absl::StatusOr<PlanSizes> sizes =
        SizePlan(SetupOf(), *PlanNamed("hybrid"), {{"gpu0", 1, 5, memory}});
    return sizes.ok() ? sizes->limits.max_tokens : -1;
  };
  EXPECT_EQ(tokens(bytes(2048)), 2048);
  EXPECT_EQ(tokens(bytes(2048) - 1), 1024);
  EXPECT_EQ(tokens(bytes(1024) - 1), 600);
  EXPECT_EQ(tokens(bytes(600)), 600);
  EXPECT_EQ(tokens(bytes(600) - 1), -1);
  // The same where somebody says how much the cache may take.
  ClusterSetup setup = SetupOf();
  setup.kv_by_workers = false;
  setup.kv_request.memory_is_hard = true;
  setup.kv_request.memory_bytes = bytes(1024);
  const absl::StatusOr<PlanSizes> sizes = SizePlan(setup, *PlanNamed("hybrid"), {});
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_EQ(sizes->limits.max_tokens, 1024);
}

}  // namespace
}  // namespace tandem
