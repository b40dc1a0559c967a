#include "gateway/dispatch/step_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "gateway/dispatch/cost_file.h"
#include "gateway/dispatch/step_stopwatch.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// Four layers, the second one global.
ModelConfig FourLayers() {
  ModelConfig config;
  config.num_layers = 4;
  config.sliding_window = 100;
  config.layer_is_global = {false, true, false, false};
  return config;
}

// Times of one token, in seconds; `each` more for each further one.
std::vector<StageCost> Costs(double attention, double ffn, double head, double each = 1) {
  std::vector<StageCost> costs;
  for (const std::int32_t tokens : {1, 11}) {
    const double times = 1 + each * (tokens - 1);
    const CostPoint point{tokens, 0};
    costs.push_back({CostKind::kBegin, point, 0.5});
    costs.push_back({CostKind::kEmbed, point, 1});
    costs.push_back({CostKind::kLocalAttention, point, attention * times});
    costs.push_back({CostKind::kGlobalAttention, point, 2 * attention * times});
    costs.push_back({CostKind::kFfn, point, ffn * times});
    costs.push_back({CostKind::kLocalAttend, point, attention * times / 4});
    costs.push_back({CostKind::kGlobalAttend, point, 2 * attention * times / 4});
    costs.push_back({CostKind::kHead, point, head});
    costs.push_back({CostKind::kSubmission, point, 0});
  }
  return costs;
}

const std::vector<PlanWorker> kWorkers = {{"npu0", WorkerRole::kNpu}, {"gpu0", WorkerRole::kGpu}};

StepModel MakeModel(PairCosts pair = {}) {
  pair.first = "npu0";
  pair.second = "gpu0";
  return StepModel(
      FourLayers(),
      {{"npu0", "CPU", Costs(1, 2, 3), "", false}, {"gpu0", "GPU", Costs(10, 20, 30), "", false}},
      {pair});
}

std::vector<StagePlacement> Route(const std::string& plan) {
  return MakePlan(plan, FourLayers(), kWorkers)->routes.front().stages;
}

double Seconds(const StepModel& model, const std::string& plan, const StepShape& shape) {
  const auto predicted = model.Predict(Route(plan), shape);
  EXPECT_TRUE(predicted.ok()) << predicted.status();
  return predicted.ok() ? predicted->seconds : -1;
}

TEST(StepModel, AddsUpTheStagesOfOneWorker) {
  // begin, embed, 3 local and 1 global attention, 4 ffn, head
  EXPECT_DOUBLE_EQ(Seconds(MakeModel(), "npu", {{1, 0}}), 0.5 + 1 + 3 + 2 + 8 + 3);
  EXPECT_DOUBLE_EQ(Seconds(MakeModel(), "gpu", {{1, 0}}), 0.5 + 1 + 30 + 20 + 80 + 30);
  // Without a sample the head has nothing to do.
  EXPECT_DOUBLE_EQ(Seconds(MakeModel(), "npu", {{1, 0}, false}), 0.5 + 1 + 3 + 2 + 8);
}

TEST(StepModel, AddsUpWorkersAndHandOvers) {
  PairCosts pair;
  pair.hop = {0.25, 0.125};
  pair.cut_hop = {0.5, 0.25};
  const StepModel model = MakeModel(pair);
  // Embedding and head on gpu0, beside the ffn; 8 hops of a row.
  const auto split = model.Predict(Route("split"), {{1, 0}});
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->hops, 8);
  EXPECT_EQ(split->hop_rows, 8);
  EXPECT_DOUBLE_EQ(split->seconds, 0.5 + 1 + 5 + 80 + 30 + 8 * 0.375);
  // One layer on npu0, three and the ends on gpu0.
  const auto layers = model.Predict(Route("layers:1,3"), {{1, 0}});
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_EQ(layers->hops, 2);
  EXPECT_DOUBLE_EQ(layers->seconds, 0.5 + 1 + 1 + 2 + (20 + 20 + 60) + 30 + 2 * 0.375);
  // Rows around attention that is cut out are others.
  const auto prefill = MakePlan("hybrid", FourLayers(), kWorkers)->routes[kPrefillRoute].stages;
  const auto hybrid = model.Predict(prefill, {{1, 0}});
  ASSERT_TRUE(hybrid.ok()) << hybrid.status();
  EXPECT_EQ(hybrid->hops, 10);
  EXPECT_DOUBLE_EQ(hybrid->seconds, MakeModel().Predict(prefill, {{1, 0}})->seconds + 10 * 0.75);
}

TEST(StepModel, WhatIsSubmittedTogetherCostsLess) {
  std::vector<StageCost> costs = Costs(1, 2, 3);
  for (StageCost& cost : costs) {
    if (cost.kind == CostKind::kSubmission) cost.seconds = 0.25;
  }
  const StepModel model(FourLayers(), {{"npu0", "CPU", costs, "", false}}, {});
  // Ten parts in one submission.
  EXPECT_DOUBLE_EQ(Seconds(model, "npu", {{1, 0}}), 17.5 - 9 * 0.25);
}

// Embedding, attention alone and the head on gpu0, all else on npu0.
TEST(StepModel, ProductsAreWhatAttentionTakesLessWithoutThem) {
  const auto prefill = MakePlan("hybrid", FourLayers(), kWorkers)->routes[kPrefillRoute].stages;
  const auto predicted = MakeModel().Predict(prefill, {{1, 0}});
  ASSERT_TRUE(predicted.ok()) << predicted.status();
  EXPECT_EQ(predicted->hops, 10);
  const double alike = 0.5 + 1 + (3 * 0.75 + 1.5) + 8 + (3 * 2.5 + 5) + 30;
  EXPECT_DOUBLE_EQ(predicted->seconds, alike);
  // The stage of the first qkv alone has a submission that no difference holds.
  std::vector<StageCost> costs = Costs(1, 2, 3);
  for (StageCost& cost : costs) {
    if (cost.kind == CostKind::kSubmission) cost.seconds = 0.25;
  }
  const StepModel model(
      FourLayers(),
      {{"npu0", "NPU", costs, "", false}, {"gpu0", "GPU", Costs(10, 20, 30), "", false}}, {});
  EXPECT_DOUBLE_EQ(model.Predict(prefill, {{1, 0}})->seconds, alike + 0.25);
  // A worker that did not time attention alone leaves the plan without a prediction.
  std::erase_if(costs, [](const StageCost& c) { return c.kind == CostKind::kLocalAttend; });
  const StepModel older(
      FourLayers(),
      {{"npu0", "NPU", costs, "", false}, {"gpu0", "GPU", Costs(10, 20, 30), "", false}}, {});
  EXPECT_TRUE(absl::IsNotFound(older.Predict(prefill, {{1, 0}}).status()));
}

TEST(StepModel, DrawsLinesBetweenAndBeyondWhatWasMeasured) {
  const StepModel model = MakeModel();
  const auto at = [&](std::int32_t tokens) {
    return *model.CostOf("npu0", CostKind::kFfn, {tokens, 0});
  };
  EXPECT_DOUBLE_EQ(at(1), 2);
  EXPECT_DOUBLE_EQ(at(6), 12);
  EXPECT_DOUBLE_EQ(at(11), 22);
  EXPECT_DOUBLE_EQ(at(21), 42);
  // Of one size alone: as many times as long.
  const StepModel one(FourLayers(), {{"npu0", "CPU", {{CostKind::kFfn, {4, 0}, 8}}, "", false}},
                      {});
  EXPECT_DOUBLE_EQ(*one.CostOf("npu0", CostKind::kFfn, {8, 0}), 16);
  EXPECT_DOUBLE_EQ(*one.CostOf("npu0", CostKind::kFfn, {1, 0}), 8);
}

TEST(StepModel, AttentionGrowsWithTheContextUpToTheWindow) {
  const StepModel model(FourLayers(),
                        {{"npu0",
                          "CPU",
                          {{CostKind::kLocalAttention, {1, 0}, 1},
                           {CostKind::kLocalAttention, {1, 50}, 6},
                           {CostKind::kGlobalAttention, {1, 0}, 1},
                           {CostKind::kGlobalAttention, {1, 50}, 6},
                           {CostKind::kFfn, {1, 0}, 3},
                           {CostKind::kFfn, {1, 50}, 3}},
                          "",
                          false}},
                        {});
  const auto at = [&](CostKind kind, std::int32_t context) {
    return *model.CostOf("npu0", kind, {1, context});
  };
  EXPECT_DOUBLE_EQ(at(CostKind::kGlobalAttention, 200), 21);
  EXPECT_DOUBLE_EQ(at(CostKind::kLocalAttention, 80), 9);
  // A token sees itself, too: 51 keys behind 50, and 100 from there on.
  EXPECT_DOUBLE_EQ(at(CostKind::kLocalAttention, 200), 10.9);
  EXPECT_DOUBLE_EQ(at(CostKind::kFfn, 200), 3);
}

// 3 s for each of the tokens, and 0.01 s for each key that one of them sees, 0.5 s where it is
// alone.
TEST(StepModel, PromptsTakeAsMuchLongerAsTheirTokensSeeKeys) {
  const auto keys = [](std::int32_t tokens, std::int32_t context, std::int32_t window) {
    double sum = 0;
    for (std::int32_t i = 1; i <= tokens; ++i) sum += std::min(context + i, window);
    return sum;
  };
  std::vector<StageCost> costs;
  for (const CostPoint& point :
       std::vector<CostPoint>{{1, 0}, {1, 50}, {8, 0}, {32, 0}, {32, 500}, {128, 0}}) {
    const double key = point.tokens == 1 ? 0.5 : 0.01;
    for (const auto& [whole, alone, window] :
         {std::tuple(CostKind::kLocalAttention, CostKind::kLocalAttend, 100),
          std::tuple(CostKind::kGlobalAttention, CostKind::kGlobalAttend, 1 << 20)}) {
      const double seen = key * keys(point.tokens, point.context, window);
      costs.push_back({whole, point, 3.0 * point.tokens + seen});
      costs.push_back({alone, point, seen});
    }
  }
  const StepModel model(FourLayers(), {{"npu0", "CPU", costs, "", false}}, {});
  for (const auto& [kind, window, each] : {std::tuple(CostKind::kLocalAttention, 100, 3.0),
                                           std::tuple(CostKind::kLocalAttend, 100, 0.0),
                                           std::tuple(CostKind::kGlobalAttention, 1 << 20, 3.0),
                                           std::tuple(CostKind::kGlobalAttend, 1 << 20, 0.0)}) {
    for (const CostPoint& point :
         std::vector<CostPoint>{{16, 0}, {64, 300}, {128, 70}, {1024, 0}, {1024, 1024}}) {
      const double expected =
          each * point.tokens + 0.01 * keys(point.tokens, point.context, window);
      EXPECT_NEAR(*model.CostOf("npu0", kind, point), expected, 1e-9 * expected)
          << NameOf(kind) << " " << point.tokens << " behind " << point.context;
    }
    EXPECT_NEAR(*model.CostOf("npu0", kind, {1, 200}), each + 0.5 * keys(1, 200, window), 1e-9);
  }
}

TEST(StepModel, MicroBatchesOverlapAsFarAsTheDevicesLet) {
  // Both have as much to do, and nothing of it twice.
  std::vector<StageCost> costs = Costs(1, 1, 0, 1);
  for (StageCost& cost : costs) {
    if (cost.kind == CostKind::kGlobalAttention) cost.seconds /= 2;
    if (cost.kind == CostKind::kBegin || cost.kind == CostKind::kEmbed) cost.seconds = 0;
  }
  const auto seconds = [&](double slowdown, std::int32_t micro_batches) {
    PairCosts pair;
    pair.first = "npu0";
    pair.second = "gpu0";
    pair.slowdown = slowdown;
    const StepModel model(FourLayers(),
                          {{"npu0", "", costs, "", false}, {"gpu0", "", costs, "", false}}, {pair});
    return Seconds(model, "split", {{8, 0}, true, micro_batches});
  };
  // 4 attention and 4 ffn of 8 tokens, one after another.
  EXPECT_DOUBLE_EQ(seconds(1, 1), 64);
  // Cut in two they fill both workers, but for one half at the begin and one at the end.
  EXPECT_DOUBLE_EQ(seconds(1, 2), 36);
  // Devices that share everything gain nothing.
  EXPECT_DOUBLE_EQ(seconds(2, 2), 64);
  EXPECT_DOUBLE_EQ(seconds(1.5, 2), 50);
}

// Of the worker that samples; and that of messages to both where both are sent the step.
TEST(StepModel, AddsWhatAStepTakesMoreThanItsStages) {
  PairCosts pair;
  pair.first = "npu0";
  pair.second = "gpu0";
  pair.message_seconds = 0.125;
  WorkerCosts npu{"npu0", "CPU", Costs(1, 2, 3), "", false};
  npu.overhead = {0.25, 4};
  WorkerCosts gpu{"gpu0", "GPU", Costs(10, 20, 30), "", false};
  gpu.overhead = {0.5, 8};
  const StepModel model(FourLayers(), {npu, gpu}, {pair});
  // Of answers: behind a step that is under way.
  const auto decode = model.Predict(Route("npu"), {{1, 5}});
  ASSERT_TRUE(decode.ok()) << decode.status();
  EXPECT_DOUBLE_EQ(decode->overhead_seconds, 0.25);
  EXPECT_DOUBLE_EQ(decode->seconds, 17.5 + 0.25);
  // Of a prompt: by itself.
  const auto prefill = model.Predict(Route("npu"), {{11, 0}});
  ASSERT_TRUE(prefill.ok()) << prefill.status();
  EXPECT_DOUBLE_EQ(prefill->overhead_seconds, 4);
  EXPECT_DOUBLE_EQ(prefill->seconds, 0.5 + 1 + 5 * 11 + 8 * 11 + 3 + 4);
  // gpu0 samples, and npu0 is sent the step, too.
  const auto split = model.Predict(Route("split"), {{1, 5}, true, 1, true});
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_DOUBLE_EQ(split->overhead_seconds, 0.5 + 0.125);
  EXPECT_DOUBLE_EQ(split->seconds, 0.5 + 1 + 5 + 80 + 30 + 0.625);
}

TEST(LayersToMeasure, AreOfBothKindsAndEnough) {
  const ModelConfig config = FourLayers();
  // Large ones: one of each kind. Small ones: all.
  EXPECT_EQ(LayersToMeasure(config, std::uint64_t{4} << 30), std::pair(0, 2));
  EXPECT_EQ(LayersToMeasure(config, 1 << 20), std::pair(0, 4));
  EXPECT_EQ(LayersToMeasure(config, std::uint64_t{400} << 20), std::pair(0, 3));
}

TEST(MiddleMean, LeavesOutTheShortestAndTheLongest) {
  EXPECT_EQ(MiddleMean({}), 0);
  EXPECT_DOUBLE_EQ(MiddleMean({3}), 3);
  EXPECT_DOUBLE_EQ(MiddleMean({1, 2, 6}), 3);
  EXPECT_DOUBLE_EQ(MiddleMean({1000, 4, 2, 0}), 3);
}

TEST(TakeOverhead, IsWhatIsLeftBesideTheStages) {
  // Stages of 2 s, 0.5 s beside them, 0.25 s behind another step.
  OverheadSteps steps{{2.25, 2.25}, {2.5}, {8.5}, 4};
  EXPECT_EQ(TakeOverhead(steps), (StepOverhead{0.25, 0.5}));
  // No step is shorter than nothing, whatever the machine did meanwhile.
  steps.following = {1};
  EXPECT_EQ(TakeOverhead(steps), (StepOverhead{0, 0.5}));
  steps.many = {1};
  EXPECT_EQ(TakeOverhead(steps), (StepOverhead{1, 2.5}));
  steps.many = {100};
  EXPECT_EQ(TakeOverhead(steps), (StepOverhead{0, 0}));
  steps.many.clear();
  EXPECT_EQ(TakeOverhead(steps), StepOverhead());
}

TEST(StepModel, SaysWhatIsMissing) {
  const StepModel model(FourLayers(),
                        {{"npu0", "CPU", {{CostKind::kBegin, {1, 0}, 1}}, "", false},
                         {"gpu0", "GPU", {}, "it ran out of memory", false}},
                        {});
  EXPECT_THAT(model.Predict(Route("npu"), {{1, 0}}).status().message(),
              HasSubstr("npu0 has no time for 'embed'"));
  EXPECT_THAT(model.Predict(Route("gpu"), {{1, 0}}).status().message(),
              HasSubstr("gpu0 has measured nothing: it ran out of memory"));
  const StepModel empty(FourLayers(), {}, {});
  EXPECT_THAT(empty.Predict(Route("gpu"), {{1, 0}}).status().message(),
              HasSubstr("gpu0 has measured nothing"));
}

TEST(TakeHandovers, TakesWhatTheStagesDoNotExplain) {
  const EdgeCosts first{HandleKind::kHostPointer, {{1, 10.22, 4}, {11, 50.42, 20}}};
  EdgeCosts second{HandleKind::kHostPointer, {{1, 10.22, 6}, {11, 50.5, 30}}};
  absl::StatusOr<HopCosts> hop = TakeHandovers(first, second);
  ASSERT_TRUE(hop.ok()) << hop.status();
  EXPECT_NEAR(hop->row_seconds, 0.01, 1e-12);
  EXPECT_NEAR(hop->seconds, 0.1, 1e-12);
  // No longer than the stages: hand-overs are free.
  second.costs[0].stage_seconds = second.costs[1].stage_seconds = 40;
  hop = TakeHandovers(first, second);
  ASSERT_TRUE(hop.ok()) << hop.status();
  EXPECT_EQ(*hop, HopCosts());
  // Of one size alone each row counts as nothing.
  hop = TakeHandovers({HandleKind::kInline, {{4, 3, 1}}}, {HandleKind::kInline, {{4, 3, 1}}});
  ASSERT_TRUE(hop.ok()) << hop.status();
  EXPECT_EQ(*hop, (HopCosts{0.5, 0}));
  // What does not belong together.
  second.kind = HandleKind::kInline;
  EXPECT_TRUE(absl::IsInvalidArgument(TakeHandovers(first, second).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(TakeHandovers({}, {}).status()));
  second = first;
  second.costs[1].rows = 12;
  EXPECT_TRUE(absl::IsInvalidArgument(TakeHandovers(first, second).status()));
}

TEST(CostFile, IsReadAsItWasWritten) {
  WorkerCosts costs;
  costs.costs = Costs(1, 2, 3);
  auto read = ReadCosts(WriteCosts("key", costs), "key");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->costs, costs.costs);
  EXPECT_FALSE(read->overhead.has_value());
  costs.overhead = {2e-4, 5e-4};
  read = ReadCosts(WriteCosts("key", costs), "key");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->overhead, costs.overhead);
  PairCosts pair;
  pair.slowdown = 1.25;
  pair.edge_kind = "dma-buf";
  pair.hop = {1e-5, 1e-8};
  pair.cut_hop = {2e-5, 3e-8};
  pair.message_seconds = 3e-4;
  const auto again = ReadPair(WritePair("key", pair), "key");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->slowdown, 1.25);
  EXPECT_EQ(again->edge_kind, "dma-buf");
  EXPECT_EQ(again->hop, pair.hop);
  EXPECT_EQ(again->cut_hop, pair.cut_hop);
  EXPECT_EQ(again->message_seconds, 3e-4);
}

TEST(CostFile, AnythingElseIsRefused) {
  WorkerCosts costs;
  costs.costs = Costs(1, 2, 3);
  costs.overhead = {2e-4, 5e-4};
  const std::string good = WriteCosts("key", costs);
  const auto refused = [](const std::string& text) {
    return absl::IsDataLoss(ReadCosts(text, "key").status());
  };
  ASSERT_FALSE(refused(good));
  EXPECT_TRUE(absl::IsDataLoss(ReadCosts(good, "another device").status()));
  EXPECT_TRUE(refused(WritePair("key", {})));
  EXPECT_TRUE(refused(WriteCosts("key", {})));
  for (std::size_t length = 0; length + 1 < good.size(); length += 7)
    EXPECT_TRUE(refused(good.substr(0, length))) << length;
  const auto spoilt = [&](std::vector<StageCost> stages) {
    WorkerCosts spoilt_costs;
    spoilt_costs.costs = std::move(stages);
    return refused(WriteCosts("key", spoilt_costs));
  };
  EXPECT_TRUE(spoilt({{CostKind::kFfn, {0, 0}, 1}}));
  EXPECT_TRUE(spoilt({{CostKind::kFfn, {1 << 20, 0}, 1}}));
  EXPECT_TRUE(spoilt({{CostKind::kFfn, {1, -1}, 1}}));
  EXPECT_TRUE(spoilt({{CostKind::kFfn, {1, 0}, -1}}));
  EXPECT_TRUE(spoilt({{CostKind::kFfn, {1, 0}, 1e9}}));
  EXPECT_TRUE(spoilt(
      std::vector<StageCost>(kMostCostPoints * kNumCostKinds + 1, {CostKind::kFfn, {1, 0}, 1})));
  for (const StepOverhead& bad : {StepOverhead{-1, 0}, StepOverhead{0, 1e9}}) {
    costs.overhead = bad;
    EXPECT_TRUE(refused(WriteCosts("key", costs)));
  }
  PairCosts pair;
  pair.message_seconds = -1;
  EXPECT_TRUE(absl::IsDataLoss(ReadPair(WritePair("key", pair), "key").status()));
  pair.message_seconds = 0;
  pair.slowdown = 0.5;
  EXPECT_TRUE(absl::IsDataLoss(ReadPair(WritePair("key", pair), "key").status()));
  pair.slowdown = 1;
  pair.edge_kind = "pigeon";
  EXPECT_TRUE(absl::IsDataLoss(ReadPair(WritePair("key", pair), "key").status()));
}

}  // namespace
}  // namespace tandem
