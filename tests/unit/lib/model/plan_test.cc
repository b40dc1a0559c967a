#include "lib/model/plan.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<PlanWorker> kWorkers = {
    {"npu0", WorkerRole::kNpu}, {"gpu0", WorkerRole::kGpu}, {"gpu1", WorkerRole::kGpu}};

ModelConfig ThreeLayers() {
  ModelConfig c;
  c.num_layers = 3;
  return c;
}

Plan Make(std::string_view name, const std::vector<PlanWorker>& workers = kWorkers) {
  const absl::StatusOr<Plan> plan = MakePlan(name, ThreeLayers(), workers);
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return {};
  EXPECT_TRUE(ValidatePlan(*plan, ThreeLayers(), workers).ok())
      << ValidatePlan(*plan, ThreeLayers(), workers);
  return *plan;
}

// Of the first route.
std::vector<StagePlacement> StagesOf(const Plan& plan) {
  return plan.routes.empty() ? std::vector<StagePlacement>() : plan.routes.front().stages;
}

std::string ErrorOf(std::string_view name, const std::vector<PlanWorker>& workers = kWorkers) {
  const absl::StatusOr<Plan> plan = MakePlan(name, ThreeLayers(), workers);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(plan.status().message());
}

TEST(MakePlan, OneWorkerDoesAll) {
  EXPECT_THAT(StagesOf(Make("gpu")), ElementsAre(StagePlacement{"gpu0", StagePart::kEmbed, 0, 0},
                                                 StagePlacement{"gpu0", StagePart::kBoth, 0, 3},
                                                 StagePlacement{"gpu0", StagePart::kHead, 0, 0}));
  EXPECT_EQ(StagesOf(Make("npu"))[1].worker, "npu0");
  EXPECT_THAT(EdgesOf(Make("npu")), ElementsAre());
}

TEST(MakePlan, SplitAlternatesAndEmbedsBesideTheHead) {
  const Plan plan = Make("split");
  ASSERT_EQ(StagesOf(plan).size(), 8u);
  EXPECT_EQ(StagesOf(plan)[0], (StagePlacement{"gpu0", StagePart::kEmbed, 0, 0}));
  EXPECT_EQ(StagesOf(plan)[1], (StagePlacement{"npu0", StagePart::kAttention, 0, 1}));
  EXPECT_EQ(StagesOf(plan)[2], (StagePlacement{"gpu0", StagePart::kFfn, 0, 1}));
  EXPECT_EQ(StagesOf(plan)[7], (StagePlacement{"gpu0", StagePart::kHead, 0, 0}));
  EXPECT_THAT(EdgesOf(plan), ElementsAre(PlanEdge{"gpu0", "npu0"}, PlanEdge{"npu0", "gpu0"}));
  EXPECT_THAT(RegionsOf(plan, "npu0"),
              ElementsAre("layer.0.attention", "layer.1.attention", "layer.2.attention"));
  EXPECT_THAT(RegionsOf(plan, "gpu0"),
              ElementsAre("embedding", "layer.0.ffn", "layer.1.ffn", "layer.2.ffn"));
  EXPECT_THAT(RegionsOf(plan, "gpu1"), ElementsAre());
}

TEST(MakePlan, HybridHasARouteForDecodeAndOneForPrefill) {
  const Plan plan = Make("hybrid");
  ASSERT_EQ(plan.routes.size(), 2u);
  EXPECT_EQ(plan.routes[kDecodeRoute].use, RouteUse::kDecode);
  EXPECT_EQ(plan.routes[kDecodeRoute].stages, StagesOf(Make("gpu")));
  const PlanRoute& prefill = plan.routes[kPrefillRoute];
  EXPECT_EQ(prefill.use, RouteUse::kPrefill);
  ASSERT_EQ(prefill.stages.size(), 14u);
  EXPECT_EQ(prefill.stages[0], (StagePlacement{"gpu0", StagePart::kEmbed, 0, 0}));
  EXPECT_EQ(prefill.stages[1], (StagePlacement{"npu0", StagePart::kQkv, 0, 1}));
  EXPECT_EQ(prefill.stages[2], (StagePlacement{"gpu0", StagePart::kAttend, 0, 1}));
  EXPECT_EQ(prefill.stages[3], (StagePlacement{"npu0", StagePart::kOutput, 0, 1}));
  EXPECT_EQ(prefill.stages[4], (StagePlacement{"npu0", StagePart::kFfn, 0, 1}));
  EXPECT_EQ(prefill.stages[5], (StagePlacement{"npu0", StagePart::kQkv, 1, 2}));
  EXPECT_EQ(prefill.stages[13], (StagePlacement{"gpu0", StagePart::kHead, 0, 0}));
  EXPECT_EQ(HeadWorkerOf(plan), "gpu0");
  EXPECT_THAT(EdgesOf(plan), ElementsAre(PlanEdge{"gpu0", "npu0"}, PlanEdge{"npu0", "gpu0"}));
  // All layers lie with both.
  EXPECT_THAT(RegionsOf(plan, "npu0"),
              ElementsAre("layer.0.attention", "layer.0.ffn", "layer.1.attention", "layer.1.ffn",
                          "layer.2.attention", "layer.2.ffn"));
  EXPECT_EQ(RegionsOf(plan, "gpu0").size(), 7u);
}

TEST(MakePlan, LayersEvenOrCounted) {
  const std::vector<PlanWorker> two = {{"a", WorkerRole::kGpu}, {"b", WorkerRole::kNpu}};
  const Plan even = Make("layers", two);
  EXPECT_THAT(StagesOf(even), ElementsAre(StagePlacement{"b", StagePart::kEmbed, 0, 0},
                                          StagePlacement{"a", StagePart::kBoth, 0, 2},
                                          StagePlacement{"b", StagePart::kBoth, 2, 3},
                                          StagePlacement{"b", StagePart::kHead, 0, 0}));
  EXPECT_THAT(EdgesOf(even), ElementsAre(PlanEdge{"b", "a"}, PlanEdge{"a", "b"}));
  EXPECT_THAT(RegionsOf(even, "b"), ElementsAre("embedding", "layer.2.attention", "layer.2.ffn"));
  EXPECT_EQ(StagesOf(Make("layers:1,2", two))[1], (StagePlacement{"a", StagePart::kBoth, 0, 1}));
  EXPECT_EQ(Make("layers:1,2", two).name, "layers");
  EXPECT_EQ(StagesOf(Make("layers")).size(), 5u);
}

TEST(MakePlan, ErrorsNameWhatIsMissing) {
  EXPECT_THAT(ErrorOf("npu", {{"gpu0", WorkerRole::kGpu}}),
              HasSubstr("expected a worker of role 'npu', found none"));
  EXPECT_THAT(ErrorOf("split", {{"npu0", WorkerRole::kNpu}}), HasSubstr("role 'gpu'"));
  EXPECT_THAT(ErrorOf("hybrid", {{"gpu0", WorkerRole::kGpu}}), HasSubstr("role 'npu'"));
  EXPECT_THAT(ErrorOf("hybrid", {{"npu0", WorkerRole::kNpu}}), HasSubstr("role 'gpu'"));
  EXPECT_THAT(ErrorOf("zigzag"), HasSubstr("found 'zigzag'"));
  EXPECT_THAT(ErrorOf("layers:1,1,2"), HasSubstr("sum to 3 layers, found 4"));
  EXPECT_THAT(ErrorOf("layers:1,2"), HasSubstr("expected 2 workers, found 3"));
  EXPECT_THAT(ErrorOf("layers:1,x,1"), HasSubstr("found 'x'"));
  EXPECT_THAT(ErrorOf("layers:1,0,2"), HasSubstr("found '0'"));
  EXPECT_THAT(ErrorOf("layers", {}), HasSubstr("found 0"));
  EXPECT_THAT(ErrorOf("layers", {{"a", WorkerRole::kGpu},
                                 {"b", WorkerRole::kGpu},
                                 {"c", WorkerRole::kGpu},
                                 {"d", WorkerRole::kGpu}}),
              HasSubstr("found 4"));
  EXPECT_THAT(ErrorOf("gpu", {{"a", WorkerRole::kGpu}, {"a", WorkerRole::kNpu}}),
              HasSubstr("'a' twice"));
}

TEST(ValidatePlan, FindsEveryDisorder) {
  const auto error = [](const auto& change) {
    Plan plan = Make("split");
    change(plan.routes[0].stages);
    return std::string(ValidatePlan(plan, ThreeLayers(), kWorkers).message());
  };
  using Stages = std::vector<StagePlacement>;
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin()); }), HasSubstr("stage 0: expected embed"));
  EXPECT_THAT(error([](Stages& s) { s.pop_back(); }), HasSubstr("expected head"));
  EXPECT_THAT(error([](Stages& s) { s[0].worker = "npu0"; }),
              HasSubstr("the head beside the embedding on 'npu0'"));
  EXPECT_THAT(error([](Stages& s) { s[2].worker = "who"; }), HasSubstr("known workers"));
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 2); }),
              HasSubstr("stage 2: expected ffn of layer 0"));
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 5, s.begin() + 7); }),
              HasSubstr("found nothing from layer 2"));
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 6); }),
              HasSubstr("found no ffn of layer 2"));
  EXPECT_THAT(error([](Stages& s) { s[3].last_layer = 3; }), HasSubstr("stage 3"));
  EXPECT_THAT(error([](Stages& s) { s[6].last_layer = 4; }), HasSubstr("stage 6"));
  EXPECT_THAT(error([](Stages& s) { s.insert(s.begin() + 3, s[2]); }),
              HasSubstr("stage 3: expected attention, qkv or both of layer 1"));
  EXPECT_THAT(error([](Stages& s) { s.clear(); }), HasSubstr("found 0 stages"));
}

TEST(ValidatePlan, RoutesMustFitEachOther) {
  const auto error = [](const auto& change) {
    Plan plan = Make("hybrid");
    change(plan.routes);
    return std::string(ValidatePlan(plan, ThreeLayers(), kWorkers).message());
  };
  using Routes = std::vector<PlanRoute>;
  EXPECT_THAT(error([](Routes& r) { r.clear(); }), HasSubstr("found 0"));
  EXPECT_THAT(error([](Routes& r) { r.pop_back(); }), HasSubstr("found 1: decode"));
  EXPECT_THAT(error([](Routes& r) { std::swap(r[0], r[1]); }), HasSubstr("prefill, decode"));
  EXPECT_THAT(error([](Routes& r) { r.push_back(r[1]); }), HasSubstr("found 3"));
  EXPECT_THAT(error([](Routes& r) { r[0].use = r[1].use = RouteUse::kAll; }),
              HasSubstr("found 2: all, all"));
  EXPECT_THAT(error([](Routes& r) { r[1].stages.erase(r[1].stages.begin() + 2); }),
              HasSubstr("route 'prefill': plan stage 2: expected attend of layer 0"));
  EXPECT_THAT(error([](Routes& r) {
                for (const std::size_t i : {5u, 7u, 8u}) r[1].stages[i].worker = "gpu0";
                r[1].stages[6].worker = "npu0";
              }),
              HasSubstr("route 'prefill': expected attention of layer 1 on 'gpu0' as in route "
                        "'decode', whose keys and values are there, found it on 'npu0'"));
  EXPECT_THAT(
      error([](Routes& r) { r[1].stages.front().worker = r[1].stages.back().worker = "npu0"; }),
      HasSubstr("expected the head on 'gpu0' as in route 'decode', found it on 'npu0'"));
}

TEST(PlanName, DefaultAndWhatCanBeSaidBeforeTheModel) {
  using Roles = std::vector<WorkerRole>;
  const Roles gpu = {WorkerRole::kGpu};
  const Roles npu = {WorkerRole::kNpu};
  const Roles both = {WorkerRole::kNpu, WorkerRole::kGpu};
  EXPECT_EQ(DefaultPlanName(gpu), "gpu");
  EXPECT_EQ(DefaultPlanName(npu), "npu");
  EXPECT_EQ(DefaultPlanName(both), "auto");
  for (const char* name : {"auto", "gpu", "npu", "split", "hybrid", "layers", "layers:1,2"})
    EXPECT_TRUE(CheckPlanName(name, both).ok()) << name;
  EXPECT_FALSE(CheckPlanName("npu", gpu).ok());
  EXPECT_FALSE(CheckPlanName("split", npu).ok());
  EXPECT_FALSE(CheckPlanName("hybrid", npu).ok());
  EXPECT_FALSE(CheckPlanName("hybrid", gpu).ok());
  EXPECT_THAT(
      std::string(CheckPlanName("zigzag", both).message()),
      HasSubstr(
          "expected auto, gpu, npu, split, hybrid, layers or layers:N,N,..., found 'zigzag'"));
}

TEST(EdgeColumns, AreOfTheWidestRow) {
  ModelConfig config = ThreeLayers();
  config.hidden_size = 100;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  const auto columns = [&](const char* name, const char* from, const char* to) {
    return EdgeColumns(*MakePlan(name, config, kWorkers), {from, to}, config);
  };
  EXPECT_EQ(columns("split", "npu0", "gpu0"), 100);
  EXPECT_EQ(columns("hybrid", "npu0", "gpu0"), 128);
  EXPECT_EQ(columns("hybrid", "gpu0", "npu0"), 100);
  config.num_heads = 8;
  EXPECT_EQ(columns("hybrid", "gpu0", "npu0"), 128);
  EXPECT_EQ(columns("hybrid", "gpu0", "gpu1"), 0);
}

TEST(ValidatePlan, FindsEveryDisorderOfACutLayer) {
  const auto error = [](const auto& change) {
    Plan plan = Make("hybrid");
    change(plan.routes[kPrefillRoute].stages);
    return std::string(ValidatePlan(plan, ThreeLayers(), kWorkers).message());
  };
  using Stages = std::vector<StagePlacement>;
  EXPECT_EQ(error([](Stages&) {}), "");
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 1); }),
              HasSubstr("stage 1: expected attention, qkv or both of layer 0"));
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 2); }),
              HasSubstr("stage 2: expected attend of layer 0"));
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 3); }),
              HasSubstr("stage 3: expected output of layer 0"));
  EXPECT_THAT(error([](Stages& s) { s[2].worker = "npu0"; }),
              HasSubstr("on another worker than its qkv"));
  EXPECT_THAT(error([](Stages& s) { s[3].worker = "gpu0"; }), HasSubstr("on 'npu0' as its qkv"));
  EXPECT_THAT(error([](Stages& s) { s[1].last_layer = 2; }), HasSubstr("stage 1"));
  EXPECT_THAT(error([](Stages& s) { s.erase(s.begin() + 11, s.begin() + 13); }),
              HasSubstr("found no output of layer 2"));
}

TEST(StagePart, NamesParseBack) {
  for (const StagePart part :
       {StagePart::kEmbed, StagePart::kAttention, StagePart::kQkv, StagePart::kAttend,
        StagePart::kOutput, StagePart::kFfn, StagePart::kBoth, StagePart::kHead}) {
    EXPECT_EQ(*ParseEnum<StagePart>("stage part", NameOf(part)), part);
  }
  EXPECT_FALSE(ParseEnum<StagePart>("stage part", "tail").ok());
}

}  // namespace
}  // namespace tandem
