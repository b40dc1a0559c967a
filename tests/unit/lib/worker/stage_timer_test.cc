// Stages timed on the CPU device, and what a worker makes of being asked to.
#include "lib/worker/stage_timer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <thread>

#include "lib/base/status_macros.h"
#include "lib/device/cpu/cpu_device.h"
#include "lib/wire/cost_wire.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/weights_wire.h"
#include "lib/worker/edge_timer.h"
#include "tests/unit/lib/worker/fake_device.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

const StageTimer::Cancelled kNever = [] { return false; };

StageTimerSpec SmallSpec() {
  StageTimerSpec spec;
  spec.config = SmallConfig();
  // One of each kind.
  spec.first_layer = 0;
  spec.last_layer = 2;
  spec.limits = {
      .max_tokens = 32, .max_sequences = 4, .max_logit_rows = 4, .max_blocks_per_sequence = 8};
  spec.points = {{1, 16}, {1, 100}, {8, 0}, {32, 0}};
  return spec;
}

class StageTimerTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<StageTimer>> Make(Device& device, const StageTimerSpec& spec) {
    TANDEM_ASSIGN_OR_RETURN(const RandomModel model,
                            MakeRandomModel(spec.config, WeightFormat::kInt8, 3));
    std::vector<std::shared_ptr<const Weights>> weights;
    for (const std::string& name : RegionsOf(spec)) {
      TANDEM_ASSIGN_OR_RETURN(auto imported, device.Import(model.regions.at(name), spec.config));
      weights.push_back(std::move(imported));
    }
    return StageTimer::Create(device, std::move(weights), spec);
  }
  std::unique_ptr<Device> cpu_ = *CreateCpuDevice({.threads = 1});
};

std::map<CostKind, int> Counts(const std::vector<StageCost>& costs) {
  std::map<CostKind, int> counts;
  for (const StageCost& cost : costs) ++counts[cost.kind];
  return counts;
}

TEST_F(StageTimerTest, TimesEveryKindAtEveryPoint) {
  const auto timer = Make(*cpu_, SmallSpec());
  ASSERT_TRUE(timer.ok()) << timer.status();
  const auto costs = (*timer)->MeasureAll(absl::Seconds(1), kNever);
  ASSERT_TRUE(costs.ok()) << costs.status();
  const std::map<CostKind, int> counts = Counts(*costs);
  EXPECT_EQ(counts.size(), kNumCostKinds);
  for (const auto& [kind, count] : counts) EXPECT_EQ(count, 4) << NameOf(kind);
  for (const StageCost& cost : *costs) {
    EXPECT_GE(cost.seconds, cost.kind == CostKind::kSubmission ? 0 : 1e-9) << NameOf(cost.kind);
    EXPECT_LT(cost.seconds, 1) << NameOf(cost.kind);
  }
  // What a worker answers is what a gateway takes.
  const auto read = FromProto(ToProto(*costs));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, *costs);
}

// Of single tokens alone nothing would follow for prompts.
TEST_F(StageTimerTest, WithoutTimeItMeasuresASingleTokenAndTheShortestPrompt) {
  const auto timer = Make(*cpu_, SmallSpec());
  ASSERT_TRUE(timer.ok()) << timer.status();
  const auto costs = (*timer)->MeasureAll(absl::Nanoseconds(1), kNever);
  ASSERT_TRUE(costs.ok()) << costs.status();
  ASSERT_EQ(costs->size(), 2 * kNumCostKinds);
  for (std::size_t i = 0; i < costs->size(); ++i)
    EXPECT_EQ((*costs)[i].point, i < kNumCostKinds ? (CostPoint{1, 16}) : (CostPoint{8, 0}));
}

TEST_F(StageTimerTest, RepeatsOnePointAndEndsWhenCancelled) {
  const auto timer = Make(*cpu_, SmallSpec());
  ASSERT_TRUE(timer.ok()) << timer.status();
  const auto costs = (*timer)->Repeat({8, 0}, absl::Milliseconds(20), kNever);
  ASSERT_TRUE(costs.ok()) << costs.status();
  EXPECT_EQ(costs->size(), kNumCostKinds);
  EXPECT_EQ(costs->front().point, (CostPoint{8, 0}));
  EXPECT_TRUE(
      absl::IsInvalidArgument((*timer)->Repeat({16, 0}, absl::Milliseconds(20), kNever).status()));
  EXPECT_TRUE(
      absl::IsCancelled((*timer)->Repeat({8, 0}, absl::Hours(1), [] { return true; }).status()));
  EXPECT_TRUE(
      absl::IsCancelled((*timer)->MeasureAll(absl::Hours(1), [] { return true; }).status()));
}

TEST_F(StageTimerTest, RefusesWhatCannotBe) {
  const auto refused = [&](const std::function<void(StageTimerSpec*)>& spoil) {
    StageTimerSpec spec = SmallSpec();
    spoil(&spec);
    return std::string(ValidateStageTimerSpec(spec).message());
  };
  EXPECT_THAT(refused([](StageTimerSpec* s) { s->last_layer = 4; }), HasSubstr("layers"));
  EXPECT_THAT(refused([](StageTimerSpec* s) { s->first_layer = 2; }), HasSubstr("layers"));
  EXPECT_THAT(refused([](StageTimerSpec* s) { s->points.clear(); }), HasSubstr("points"));
  EXPECT_THAT(refused([](StageTimerSpec* s) {
                s->points.resize(33, {1, 0});
              }),
              HasSubstr("found 33"));
  EXPECT_THAT(refused([](StageTimerSpec* s) {
                s->points.push_back({33, 0});
              }),
              HasSubstr("found 33 behind 0"));
  EXPECT_THAT(refused([](StageTimerSpec* s) {
                s->points.push_back({1, 128});
              }),
              HasSubstr("found 1 behind 128"));
  EXPECT_THAT(refused([](StageTimerSpec* s) { s->limits.max_logit_rows = 0; }),
              HasSubstr("max_logit_rows"));
}

// A device that has memory of its own for residuals.
class SelfContainedDevice final : public FakeDevice {
 public:
  using FakeDevice::FakeDevice;
  absl::StatusOr<std::unique_ptr<ResidualBuffer>> CreateResidual(
      const ResidualLayout& layout) override {
    TANDEM_ASSIGN_OR_RETURN(SharedMemory memory,
                            SharedMemory::Create("fake", layout.total_bytes()));
    return std::make_unique<FakeResidual>(layout, std::move(memory.mapping));
  }
};

TEST_F(StageTimerTest, SaysWhatADeviceSays) {
  const auto behaviour = std::make_shared<FakeBehaviour>();
  FakeDevice poor(behaviour);
  EXPECT_TRUE(absl::IsUnimplemented(Make(poor, SmallSpec()).status()));
  SelfContainedDevice device(behaviour);
  const auto timer = Make(device, SmallSpec());
  ASSERT_TRUE(timer.ok()) << timer.status();
  EXPECT_TRUE((*timer)->MeasureAll(absl::Milliseconds(10), kNever).ok());
  behaviour->wait = [](const Step&) { return absl::UnavailableError("the device is lost"); };
  EXPECT_TRUE(absl::IsUnavailable((*timer)->MeasureAll(absl::Seconds(1), kNever).status()));
}

class MeasureRequestTest : public ::testing::Test {
 protected:
  v1::MeasureStagesRequest Request(std::uint64_t generation, const std::string& worker = "npu0") {
    // All of a worker that computes everything.
    const v1::PrepareRequest prepare = cluster_.PrepareRequestFor(
        worker, cluster_.PlanOf(worker == "npu0" ? "npu" : "gpu"), generation);
    v1::MeasureStagesRequest request;
    request.set_generation(generation);
    *request.mutable_config() = prepare.config();
    request.set_fingerprint(prepare.fingerprint());
    *request.mutable_regions() = prepare.regions();
    request.set_region_socket(prepare.region_socket());
    *request.mutable_limits() = prepare.limits();
    request.set_activations("auto");
    request.set_kv_type("float32");
    request.set_first_layer(0);
    request.set_last_layer(2);
    *request.add_points() = ToProto(CostPoint{1, 8});
    *request.add_points() = ToProto(CostPoint{4, 0});
    request.set_seconds(0.2);
    return request;
  }
  grpc::Status Measure(const v1::MeasureStagesRequest& request, v1::StageCosts* costs,
                       const std::string& worker = "npu0") {
    grpc::ClientContext context;
    return cluster_.worker(worker).stub().MeasureStages(&context, request, costs);
  }
  // Of edges as `plan` has them, which hands over both ways.
  v1::MeasureEdgesRequest EdgesRequest(const std::string& worker, std::uint64_t generation,
                                       const std::string& kind, const std::string& plan = "split") {
    const v1::ConnectRequest connect =
        cluster_.ConnectRequestFor(worker, cluster_.PlanOf(plan), generation, {kind});
    v1::MeasureEdgesRequest request;
    request.set_stage(plan == "split" ? "feed-forward" : worker == "gpu0" ? "attend" : "products");
    request.set_generation(generation);
    request.set_worker(worker);
    for (const bool out : {true, false}) {
      for (const v1::EdgeSpec& edge : connect.edges()) {
        if ((edge.from() == worker) == out) *request.add_edges() = edge;
      }
    }
    for (const std::int32_t rows : {1, 4}) {
      v1::HandoverRounds& rounds = *request.add_rounds();
      rounds.set_rows(rows);
      rounds.set_rounds(5);
    }
    request.set_seconds(30);
    return request;
  }
  grpc::Status MeasureEdges(const v1::MeasureEdgesRequest& request, v1::EdgeCosts* costs) {
    grpc::ClientContext context;
    return cluster_.worker(request.worker()).stub().MeasureEdges(&context, request, costs);
  }
  grpc::Status Repeat(std::uint64_t generation, double seconds, v1::StageCosts* costs) {
    v1::RepeatStagesRequest request;
    request.set_generation(generation);
    *request.mutable_point() = ToProto(CostPoint{4, 0});
    request.set_seconds(seconds);
    grpc::ClientContext context;
    return cluster_.worker("npu0").stub().RepeatStages(&context, request, costs);
  }
  void RowsGoRound(std::uint64_t generation, const std::string& kind, const std::string& plan);
  TestCluster cluster_;
};

TEST_F(MeasureRequestTest, IsAnsweredAndPlansComeUpAfterwards) {
  v1::StageCosts costs;
  grpc::Status status = Measure(Request(3), &costs);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(costs.costs_size(), static_cast<int>(2 * kNumCostKinds));
  EXPECT_TRUE(FromProto(costs).ok());
  EXPECT_EQ(cluster_.worker("npu0").Describe().generation(), 3u);
  status = Repeat(3, 0.01, &costs);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(costs.costs_size(), static_cast<int>(kNumCostKinds));
  EXPECT_EQ(Repeat(2, 0.01, &costs).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Repeat(3, 11, &costs).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Measure(Request(3), &costs).error_code(), grpc::StatusCode::FAILED_PRECONDITION);

  status = cluster_.Start(cluster_.PlanOf("npu"), 4, {"host-pointer"});
  ASSERT_TRUE(status.ok()) << status.error_message();
  // The stages that were measured are gone.
  EXPECT_EQ(Repeat(3, 0.01, &costs).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Repeat(4, 0.01, &costs).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(MeasureRequestTest, StepsOfTheMeasuredStagesAreRun) {
  v1::StageCosts costs;
  ASSERT_TRUE(Measure(Request(3), &costs).ok());
  StepsClient steps(cluster_.worker("npu0"));
  std::uint64_t step_id = 0;
  const auto run = [&](std::size_t shares, std::int32_t tokens, std::int32_t context,
                       const std::function<void(v1::StepPlan*)>& spoil = nullptr) {
    v1::StepPlan plan;
    plan.set_step_id(++step_id);
    plan.set_generation(3);
    plan.set_timeout_seconds(30);
    for (std::size_t i = 0; i < shares; ++i) {
      v1::SequenceShare& share = *plan.add_sequences();
      share.set_first_position(context);
      for (std::int32_t t = 0; t < tokens; ++t) share.add_tokens(0);
    }
    if (spoil != nullptr) spoil(&plan);
    EXPECT_TRUE(steps.Send(plan));
    v1::StepResult result = steps.Receive();
    EXPECT_EQ(result.step_id(), step_id);
    return result;
  };
  for (const std::size_t shares : {0, 1, 4}) {
    for (const std::int32_t route : {0, 1}) {
      const v1::StepResult result =
          run(shares, 1, 8, [&](v1::StepPlan* plan) { plan->set_route(route); });
      EXPECT_EQ(result.code(), 0) << result.error();
      EXPECT_EQ(result.sequences_size(), static_cast<int>(shares));
      EXPECT_EQ(result.run_seconds() > 0, shares > 0);
    }
  }
  EXPECT_EQ(run(1, 4, 0).code(), 0);
  // What is wrong is refused, and the next one runs.
  const auto refused = [&](const v1::StepResult& result, grpc::StatusCode code) {
    EXPECT_EQ(result.code(), static_cast<int>(code)) << result.error();
    EXPECT_EQ(result.sequences_size(), 0);
    return result.error();
  };
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  EXPECT_THAT(refused(run(1, 0, 0), invalid), HasSubstr("tokens that end within 16, found 0"));
  EXPECT_THAT(refused(run(1, 1 << 14, 0), invalid), HasSubstr("found 16384"));
  EXPECT_THAT(refused(run(1, 1, 16), invalid), HasSubstr("found 1 behind 16"));
  EXPECT_THAT(refused(run(1, 1, -1), invalid), HasSubstr("found 1 behind -1"));
  EXPECT_THAT(refused(run(kMostMeasuredShares + 1, 1, 8), invalid), HasSubstr("at most 16 shares"));
  EXPECT_THAT(refused(run(1, 1, 8, [](auto* plan) { plan->set_route(2); }), invalid),
              HasSubstr("route 2"));
  EXPECT_THAT(refused(run(1, 1, 8, [](auto* plan) { plan->set_timeout_seconds(0); }), invalid),
              HasSubstr("timeout_seconds"));
  EXPECT_THAT(refused(run(1, 1, 8, [](auto* plan) { plan->set_generation(2); }),
                      grpc::StatusCode::FAILED_PRECONDITION),
              HasSubstr("expected generation 3, found 2"));
  EXPECT_EQ(run(1, 1, 8).code(), 0);
  // Beside the other calls of the generation; and none are left when a plan comes up.
  EXPECT_TRUE(Repeat(3, 0.01, &costs).ok());
  const grpc::Status started = cluster_.Start(cluster_.PlanOf("npu"), 4, {"host-pointer"});
  ASSERT_TRUE(started.ok()) << started.error_message();
  refused(run(1, 1, 8), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(cluster_.worker("npu0").lost(), 0);
}

TEST_F(MeasureRequestTest, AStepOfMeasuredStagesEndsWithItsGeneration) {
  v1::StageCosts costs;
  ASSERT_TRUE(Measure(Request(3), &costs).ok());
  StepsClient steps(cluster_.worker("npu0"));
  v1::StepPlan plan;
  plan.set_generation(3);
  plan.set_timeout_seconds(30);
  for (std::size_t i = 0; i < kMostMeasuredShares; ++i) {
    plan.add_sequences()->add_tokens(0);
    plan.mutable_sequences()->rbegin()->set_first_position(8);
  }
  constexpr int kSteps = 20;
  for (int i = 0; i < kSteps; ++i) {
    plan.set_step_id(static_cast<std::uint64_t>(i) + 1);
    ASSERT_TRUE(steps.Send(plan));
  }
  ASSERT_TRUE(steps.Abort(3));
  // Each has its answer, be it that it was aborted.
  for (int i = 0; i < kSteps; ++i) {
    const int code = steps.Receive().code();
    EXPECT_TRUE(code == 0 || code == static_cast<int>(grpc::StatusCode::CANCELLED)) << code;
  }
  EXPECT_TRUE(Measure(Request(4), &costs).ok());
}

void MeasureRequestTest::RowsGoRound(std::uint64_t generation, const std::string& kind,
                                     const std::string& plan) {
  v1::EdgeCosts of_gpu;
  grpc::Status status_of_gpu;
  std::thread gpu(
      [&] { status_of_gpu = MeasureEdges(EdgesRequest("gpu0", generation, kind, plan), &of_gpu); });
  v1::EdgeCosts of_npu;
  const grpc::Status status = MeasureEdges(EdgesRequest("npu0", generation, kind, plan), &of_npu);
  gpu.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_TRUE(status_of_gpu.ok()) << status_of_gpu.error_message();
  for (const v1::EdgeCosts& message : {of_npu, of_gpu}) {
    const absl::StatusOr<EdgeCosts> costs = FromProto(message);
    ASSERT_TRUE(costs.ok()) << costs.status();
    EXPECT_EQ(NameOf(costs->kind), kind);
    ASSERT_EQ(costs->costs.size(), 2u);
    EXPECT_EQ(costs->costs[0].rows, 1);
    EXPECT_EQ(costs->costs[1].rows, 4);
    for (const HandoverCost& cost : costs->costs) {
      EXPECT_GT(cost.stage_seconds, 0);
      EXPECT_GT(cost.round_seconds, cost.stage_seconds);
    }
  }
}

TEST_F(MeasureRequestTest, RowsGoRoundBetweenTwoWorkers) {
  std::uint64_t generation = 0;
  for (const std::string kind : {"host-pointer", "inline"}) {
    ++generation;
    v1::StageCosts stages;
    for (const std::string name : {"npu0", "gpu0"}) {
      const grpc::Status measured = Measure(Request(generation, name), &stages, name);
      ASSERT_TRUE(measured.ok()) << measured.error_message();
    }
    // Rows of the residual, and then those around attention.
    for (const std::string plan : {"split", "hybrid"}) {
      SCOPED_TRACE(kind + " " + plan);
      RowsGoRound(generation, kind, plan);
    }
    // The stages are gone, and plans come up.
    EXPECT_EQ(Repeat(generation, 0.01, &stages).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
  }
  const grpc::Status started =
      cluster_.Start(cluster_.PlanOf("split"), generation + 1, {"host-pointer"});
  EXPECT_TRUE(started.ok()) << started.error_message();
}

TEST_F(MeasureRequestTest, RowsAreAsWideAsThoseOfThePlans) {
  for (const std::string name : {"split", "hybrid"}) {
    const Plan plan = cluster_.PlanOf(name);
    for (const auto& [worker, other] : {std::pair("gpu0", "npu0"), {"npu0", "gpu0"}}) {
      const auto stage =
          ParseEnum<HandoverStage>("stage", EdgesRequest(worker, 1, "inline", name).stage());
      ASSERT_TRUE(stage.ok()) << stage.status();
      const HandoverColumns columns = ColumnsOf(*stage, SmallConfig());
      EXPECT_EQ(columns.out, EdgeColumns(plan, {worker, other}, SmallConfig())) << worker;
      EXPECT_EQ(columns.in, EdgeColumns(plan, {other, worker}, SmallConfig())) << worker;
    }
  }
}

TEST_F(MeasureRequestTest, AnEdgeWithoutAnotherWorkerIsNoLossOfTheDevice) {
  v1::StageCosts stages;
  v1::EdgeCosts costs;
  EXPECT_EQ(MeasureEdges(EdgesRequest("npu0", 1, "host-pointer"), &costs).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  ASSERT_TRUE(Measure(Request(1), &stages).ok());
  const auto refused = [&](const std::function<void(v1::MeasureEdgesRequest*)>& spoil) {
    v1::MeasureEdgesRequest request = EdgesRequest("npu0", 1, "host-pointer");
    spoil(&request);
    const grpc::Status status = MeasureEdges(request, &costs);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    return status.error_message();
  };
  EXPECT_THAT(refused([](auto* r) { r->mutable_edges()->SwapElements(0, 1); }),
              HasSubstr("edges: expected one from worker 'npu0'"));
  EXPECT_THAT(refused([](auto* r) { *r->mutable_edges(1) = r->edges(0); }), HasSubstr("edges"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_edges()->RemoveLast(); }), HasSubstr("edges"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_edges(0)->set_slots(0); }), HasSubstr("slots"));
  EXPECT_THAT(refused([](auto* r) { r->clear_rounds(); }), HasSubstr("rounds"));
  EXPECT_THAT(refused([](auto* r) { r->set_stage("head"); }),
              HasSubstr("stage: expected one of feed-forward, attend, products, found 'head'"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_rounds(0)->set_rows(1 << 20); }),
              HasSubstr("rows, found 5 of 1048576"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_rounds(0)->set_rounds(1 << 20); }),
              HasSubstr("rounds: expected 1 to 1000"));
  EXPECT_THAT(refused([](auto* r) { r->set_seconds(-1); }), HasSubstr("seconds"));
  // The other one is there and knows of nothing; then it is gone.
  v1::MeasureEdgesRequest request = EdgesRequest("npu0", 1, "host-pointer");
  request.set_seconds(0.05);
  EXPECT_FALSE(MeasureEdges(request, &costs).ok());
  ASSERT_TRUE(Measure(Request(2), &stages).ok());
  request = EdgesRequest("npu0", 2, "inline");
  request.set_seconds(0.5);
  cluster_.RemoveWorker("gpu0");
  EXPECT_FALSE(MeasureEdges(request, &costs).ok());
  EXPECT_EQ(cluster_.worker("npu0").lost(), 0);
  const grpc::Status started = cluster_.Start(cluster_.PlanOf("npu"), 3, {"host-pointer"});
  EXPECT_TRUE(started.ok()) << started.error_message();
}

TEST_F(MeasureRequestTest, RefusesWhatIsWrongAndGoesOn) {
  v1::StageCosts costs;
  const auto refused = [&](const std::function<void(v1::MeasureStagesRequest*)>& spoil) {
    v1::MeasureStagesRequest request = Request(5);
    spoil(&request);
    const grpc::Status status = Measure(request, &costs);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    return status.error_message();
  };
  EXPECT_THAT(refused([](auto* r) { r->set_generation(0); }), HasSubstr("generation"));
  EXPECT_THAT(refused([](auto* r) { r->set_seconds(61); }), HasSubstr("seconds"));
  EXPECT_THAT(refused([](auto* r) { r->set_seconds(std::nan("")); }), HasSubstr("seconds"));
  EXPECT_THAT(refused([](auto* r) { r->set_last_layer(9); }), HasSubstr("layers"));
  EXPECT_THAT(refused([](auto* r) { r->set_kv_type("int1"); }), HasSubstr("kv_type"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_points(0)->set_tokens(0); }), HasSubstr("point"));
  EXPECT_THAT(refused([](auto* r) {
                for (int i = 0; i < 40; ++i) *r->add_points() = ToProto(CostPoint{1, 0});
              }),
              HasSubstr("points"));
  v1::MeasureStagesRequest request = Request(5);
  request.clear_regions();
  EXPECT_EQ(Measure(request, &costs).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(Measure(Request(6), &costs).ok());
  EXPECT_EQ(cluster_.worker("npu0").lost(), 0);
}

}  // namespace
}  // namespace tandem
