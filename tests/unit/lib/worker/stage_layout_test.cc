#include "lib/worker/stage_layout.h"

#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"

#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

const std::vector<PlanWorker> kWorkers = {{"npu0", WorkerRole::kNpu}, {"gpu0", WorkerRole::kGpu}};

StageLayout LayOut(const std::string& plan, const std::string& worker) {
  const ModelConfig config = SmallConfig();
  absl::StatusOr<StageLayout> layout =
      LayOutStages(*MakePlan(plan, config, kWorkers), config, worker);
  EXPECT_TRUE(layout.ok()) << layout.status();
  return *layout;
}

TEST(StageLayoutTest, OneWorkerIsOneStage) {
  const StageLayout layout = LayOut("gpu", "gpu0");
  ASSERT_EQ(layout.stages.size(), 1u);
  EXPECT_EQ(layout.stages[0].spec, (StageSpec{true, 0, 6, true}));
  EXPECT_EQ(layout.stages[0].input_edge, kNoEdge);
  EXPECT_EQ(layout.stages[0].output_edge, kNoEdge);
  EXPECT_TRUE(layout.edges.empty());
  EXPECT_TRUE(layout.has_head);
  EXPECT_EQ(layout.attention_layers, (std::vector<std::int32_t>{0, 1, 2}));
}

TEST(StageLayoutTest, SplitOnTheGpu) {
  const StageLayout layout = LayOut("split", "gpu0");
  ASSERT_EQ(layout.stages.size(), 4u);
  EXPECT_EQ(layout.stages[0].spec, (StageSpec{true, 0, 0, false}));
  EXPECT_EQ(layout.stages[1].spec, (StageSpec{false, 1, 2, false}));
  EXPECT_EQ(layout.stages[2].spec, (StageSpec{false, 3, 4, false}));
  EXPECT_EQ(layout.stages[3].spec, (StageSpec{false, 5, 6, true}));
  ASSERT_EQ(layout.edges.size(), 2u);
  EXPECT_EQ(layout.edges[0], (PlanEdge{"gpu0", "npu0"}));
  ASSERT_EQ(layout.routes.size(), 1u);
  EXPECT_EQ(layout.routes[0].use, RouteUse::kAll);
  EXPECT_EQ(layout.routes[0].stages, (std::vector<std::int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(layout.routes[0].hops, (std::vector<std::int32_t>{3, 3}));
  for (std::int32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(layout.stages[static_cast<std::size_t>(i)].output_edge, 0);
    EXPECT_EQ(layout.stages[static_cast<std::size_t>(i) + 1].input_edge, 1);
  }
  EXPECT_TRUE(layout.attention_layers.empty());
}

TEST(StageLayoutTest, SplitOnTheNpu) {
  const StageLayout layout = LayOut("split", "npu0");
  ASSERT_EQ(layout.stages.size(), 3u);
  for (std::int32_t i = 0; i < 3; ++i)
    EXPECT_EQ(layout.stages[static_cast<std::size_t>(i)].spec,
              (StageSpec{false, 2 * i, 2 * i + 1, false}));
  EXPECT_FALSE(layout.has_head);
  EXPECT_EQ(layout.attention_layers, (std::vector<std::int32_t>{0, 1, 2}));
}

TEST(StageLayoutTest, LayersPutTheEmbeddingBesideTheHead) {
  const StageLayout first = LayOut("layers:2,1", "npu0");
  ASSERT_EQ(first.stages.size(), 1u);
  EXPECT_EQ(first.stages[0].spec, (StageSpec{false, 0, 4, false}));
  const StageLayout last = LayOut("layers:2,1", "gpu0");
  ASSERT_EQ(last.stages.size(), 2u);
  EXPECT_EQ(last.stages[0].spec, (StageSpec{true, 0, 0, false}));
  EXPECT_EQ(last.stages[1].spec, (StageSpec{false, 4, 6, true}));
  EXPECT_EQ(last.attention_layers, (std::vector<std::int32_t>{2}));
}

TEST(StageLayoutTest, HybridOnTheGpuHasTheStagesOfBothRoutes) {
  const StageLayout layout = LayOut("hybrid", "gpu0");
  ASSERT_EQ(layout.stages.size(), 6u);
  EXPECT_EQ(layout.stages[0].spec, (StageSpec{true, 0, 6, true}));
  EXPECT_EQ(layout.stages[1].spec, (StageSpec{true, 0, 0, false}));
  for (std::int32_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(layout.stages[static_cast<std::size_t>(layer) + 2].spec,
              (StageSpec{false, 2 * layer, 2 * layer + 1, false, AttentionCut::kProjected,
                         AttentionCut::kAttended}));
  }
  EXPECT_EQ(layout.stages[5].spec, (StageSpec{false, 6, 6, true}));
  EXPECT_EQ(layout.stages[0].name, "decode embed+layers 0-2+head");
  EXPECT_EQ(layout.stages[3].name, "prefill attend 1");
  ASSERT_EQ(layout.routes.size(), 2u);
  EXPECT_EQ(layout.routes[kDecodeRoute].use, RouteUse::kDecode);
  EXPECT_EQ(layout.routes[kDecodeRoute].stages, (std::vector<std::int32_t>{0}));
  EXPECT_EQ(layout.routes[kDecodeRoute].hops, (std::vector<std::int32_t>{0, 0}));
  EXPECT_EQ(layout.routes[kPrefillRoute].use, RouteUse::kPrefill);
  EXPECT_EQ(layout.routes[kPrefillRoute].stages, (std::vector<std::int32_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(layout.routes[kPrefillRoute].hops, (std::vector<std::int32_t>{4, 4}));
  EXPECT_EQ(layout.attention_layers, (std::vector<std::int32_t>{0, 1, 2}));
  EXPECT_TRUE(layout.has_head);
  for (std::int32_t stage = 0; stage < 6; ++stage)
    EXPECT_EQ(layout.DecodesAlone(stage), stage == 0) << stage;
  EXPECT_FALSE(LayOut("gpu", "gpu0").DecodesAlone(0));
}

TEST(StageLayoutTest, DecodeOfHybridPassesTheNpuBy) {
  const StageLayout layout = LayOut("hybrid", "npu0");
  ASSERT_EQ(layout.stages.size(), 4u);
  constexpr AttentionCut kNone = AttentionCut::kNone;
  constexpr AttentionCut kProjected = AttentionCut::kProjected;
  constexpr AttentionCut kAttended = AttentionCut::kAttended;
  EXPECT_EQ(layout.stages[0].spec, (StageSpec{false, 0, 1, false, kNone, kProjected}));
  EXPECT_EQ(layout.stages[1].spec, (StageSpec{false, 0, 3, false, kAttended, kProjected}));
  EXPECT_EQ(layout.stages[2].spec, (StageSpec{false, 2, 5, false, kAttended, kProjected}));
  EXPECT_EQ(layout.stages[3].spec, (StageSpec{false, 4, 6, false, kAttended, kNone}));
  EXPECT_EQ(layout.stages[0].name, "prefill qkv 0");
  EXPECT_EQ(layout.stages[2].name, "prefill output+ffn+next qkv 1");
  EXPECT_EQ(layout.stages[3].name, "prefill output 2+ffn 2");
  EXPECT_TRUE(layout.routes[kDecodeRoute].stages.empty());
  EXPECT_TRUE(MakeStepList(layout, kDecodeRoute, 2).empty());
  EXPECT_EQ(layout.routes[kPrefillRoute].stages, (std::vector<std::int32_t>{0, 1, 2, 3}));
  EXPECT_TRUE(layout.attention_layers.empty());
  EXPECT_FALSE(layout.has_head);
}

// What two routes both do is compiled once.
TEST(StageLayoutTest, AStageOfTwoRoutesIsOne) {
  const std::vector<StagePlacement> stages = {
      {"a", StagePart::kEmbed, 0, 0}, {"b", StagePart::kBoth, 0, 3}, {"a", StagePart::kHead, 0, 0}};
  const Plan plan{"own", {{RouteUse::kDecode, stages}, {RouteUse::kPrefill, stages}}};
  const absl::StatusOr<StageLayout> a = LayOutStages(plan, SmallConfig(), "a");
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_EQ(a->stages.size(), 2u);
  EXPECT_EQ(a->stages[1].name, "head");
  EXPECT_FALSE(a->DecodesAlone(0) || a->DecodesAlone(1));
  EXPECT_EQ(a->routes[kDecodeRoute].stages, (std::vector<std::int32_t>{0, 1}));
  EXPECT_EQ(a->routes[kPrefillRoute].stages, (std::vector<std::int32_t>{0, 1}));
}

TEST(StageLayoutTest, NeighboursOnOneWorkerMerge) {
  const ModelConfig config = SmallConfig();
  Plan plan{"own",
            {{RouteUse::kAll,
              {{"a", StagePart::kEmbed, 0, 0},
               {"a", StagePart::kAttention, 0, 1},
               {"b", StagePart::kFfn, 0, 1},
               {"b", StagePart::kBoth, 1, 2},
               {"b", StagePart::kAttention, 2, 3},
               {"a", StagePart::kFfn, 2, 3},
               {"a", StagePart::kHead, 0, 0}}}}};
  const absl::StatusOr<StageLayout> b = LayOutStages(plan, config, "b");
  ASSERT_TRUE(b.ok()) << b.status();
  ASSERT_EQ(b->stages.size(), 1u);
  EXPECT_EQ(b->stages[0].spec, (StageSpec{false, 1, 5, false}));
  EXPECT_EQ(b->attention_layers, (std::vector<std::int32_t>{1, 2}));
  const absl::StatusOr<StageLayout> a = LayOutStages(plan, config, "a");
  ASSERT_EQ(a->stages.size(), 2u);
  EXPECT_EQ(a->stages[0].spec, (StageSpec{true, 0, 1, false}));
  EXPECT_EQ(a->stages[1].spec, (StageSpec{false, 5, 6, true}));
}

// "run 1.0" for stage 1 of micro-batch 0; "wait 0:3" for hand-over 3 of edge 0.
std::vector<std::string> Words(const std::vector<ListEntry>& list) {
  std::vector<std::string> words;
  for (const ListEntry& e : list) {
    const std::string hand_over = absl::StrCat(e.edge, ":", e.number);
    switch (e.op) {
      case ListOp::kBegin:
        words.push_back(absl::StrCat("begin ", e.micro_batch));
        break;
      case ListOp::kWaitData:
        words.push_back("wait " + hand_over);
        break;
      case ListOp::kWaitSpace:
        words.push_back("space " + hand_over);
        break;
      case ListOp::kRun:
        words.push_back(absl::StrCat("run ", e.stage, ".", e.micro_batch));
        break;
      case ListOp::kRelease:
        words.push_back("release " + hand_over);
        break;
      case ListOp::kPublish:
        words.push_back("publish " + hand_over);
        break;
      case ListOp::kSample:
        words.push_back(absl::StrCat("sample ", e.micro_batch));
        break;
    }
  }
  return words;
}

TEST(StepListTest, StagesTakeAllMicroBatchesInTurn) {
  const StageLayout layout = LayOut("layers:2,1", "gpu0");
  EXPECT_EQ(Words(MakeStepList(layout, 0, 1)),
            (std::vector<std::string>{"begin 0", "space 0:0", "run 0.0", "publish 0:0", "wait 1:0",
                                      "run 1.0", "release 1:0", "sample 0"}));
  EXPECT_EQ(Words(MakeStepList(layout, 0, 2)),
            (std::vector<std::string>{"begin 0", "space 0:0", "run 0.0", "publish 0:0", "begin 1",
                                      "space 0:1", "run 0.1", "publish 0:1", "wait 1:0", "run 1.0",
                                      "release 1:0", "wait 1:1", "run 1.1", "release 1:1",
                                      "sample 0", "sample 1"}));
}

// The second route's stage does not begin the worker's list of stages, and still begins the step.
TEST(StepListTest, EachRouteHasItsOwn) {
  const StageLayout layout = LayOut("hybrid", "gpu0");
  EXPECT_EQ(Words(MakeStepList(layout, kDecodeRoute, 1)),
            (std::vector<std::string>{"begin 0", "run 0.0", "sample 0"}));
  EXPECT_EQ(
      Words(MakeStepList(layout, kPrefillRoute, 1)),
      (std::vector<std::string>{
          "begin 0",     "space 0:0",   "run 1.0",     "publish 0:0", "wait 1:0",  "space 0:1",
          "run 2.0",     "release 1:0", "publish 0:1", "wait 1:1",    "space 0:2", "run 3.0",
          "release 1:1", "publish 0:2", "wait 1:2",    "space 0:3",   "run 4.0",   "release 1:2",
          "publish 0:3", "wait 1:3",    "run 5.0",     "release 1:3", "sample 0"}));
}

// The n-th hand-over that one end publishes is the n-th that the other waits for: of the same
// micro-batch, and after the same number of stages.
TEST(StepListTest, BothEndsOfAnEdgeCountTheSame) {
  for (const std::string plan : {"split", "layers:2,1", "hybrid"}) {
    const std::size_t routes = LayOut(plan, "npu0").routes.size();
    for (std::size_t route = 0; route < routes; ++route) {
      for (std::int32_t micro_batches = 1; micro_batches <= 4; ++micro_batches) {
        std::map<std::string, std::vector<std::pair<std::int32_t, std::int32_t>>> published;
        std::map<std::string, std::vector<std::pair<std::int32_t, std::int32_t>>> awaited;
        for (const std::string worker : {"npu0", "gpu0"}) {
          const StageLayout layout = LayOut(plan, worker);
          for (const ListEntry& e : MakeStepList(layout, route, micro_batches)) {
            if (e.op != ListOp::kPublish && e.op != ListOp::kWaitData) continue;
            const auto edge = static_cast<std::size_t>(e.edge);
            EXPECT_LT(e.number, layout.routes[route].hops[edge] * micro_batches);
            (e.op == ListOp::kPublish ? published : awaited)[layout.edges[edge].from].emplace_back(
                e.number, e.micro_batch);
          }
        }
        EXPECT_EQ(published, awaited);
        // Decode of `hybrid` hands nothing over.
        EXPECT_EQ(published.size(), plan == "hybrid" && route == kDecodeRoute ? 0u : 2u);
      }
    }
  }
}

TEST(StageLayoutTest, AStrangerHasNoPart) {
  const ModelConfig config = SmallConfig();
  const absl::Status status =
      LayOutStages(*MakePlan("gpu", config, kWorkers), config, "npu0").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(std::string(status.message()).find("npu0"), std::string::npos);
}

}  // namespace
}  // namespace tandem
