// The plan `auto` on a cluster of fake workers.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/gateway/dispatch/cluster_fixture.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class ClusterAutoTest : public ClusterTest {
 protected:
  ClusterAutoTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-auto-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    options_.cache_folder = root_ + "/tandem";
    options_.plan = "auto";
  }
  ~ClusterAutoTest() override { std::filesystem::remove_all(root_); }

  std::vector<std::filesystem::path> Kept() const {
    std::vector<std::filesystem::path> files;
    if (!std::filesystem::exists(options_.cache_folder)) return files;
    for (const auto& entry : std::filesystem::directory_iterator(options_.cache_folder))
      files.push_back(entry.path());
    return files;
  }

  std::string root_;
};

TEST_F(ClusterAutoTest, TriesEveryPlanOnceAndKeepsWhatItFound) {
  StartAll();
  PlanReport report = cluster_->Report();
  ASSERT_EQ(report.trials.size(), 5u);
  EXPECT_FALSE(report.kept);
  for (std::size_t i = 0; i < 4; ++i) {
    const PlanTrial& trial = report.trials[i];
    EXPECT_EQ(trial.error, "");
    EXPECT_TRUE(trial.tried());
    EXPECT_EQ(trial.note, "not predicted: " + trial.devices.substr(0, 4) +
                              " has measured nothing: it has no stopwatch");
    EXPECT_THAT(trial.devices, HasSubstr("fake device"));
  }
  EXPECT_EQ(report.trials[3].plan, "hybrid");
  EXPECT_EQ(report.trials[4].plan, "layers:1,1");
  EXPECT_THAT(report.trials[4].error, HasSubstr("not predicted: "));
  ClusterStatus status = cluster_->Status();
  EXPECT_EQ(status.plan, report.chosen);
  // The trials were nobody's requests.
  EXPECT_EQ(status.requests_total, 0u);
  EXPECT_EQ(status.tokens_total, 0u);
  EXPECT_EQ(status.plan_change.number, 0u);
  const GenerationRequest request = Request(7, 30);
  ExpectText(*Submit(request), request);
  EXPECT_EQ(cluster_->Status().requests_total, 1u);
  ASSERT_EQ(Kept().size(), 1u);

  // A second start reads it, and brings up the chosen plan alone.
  cluster_.reset();
  gpu_->Kill();
  npu_->Kill();
  StartAll();
  report = cluster_->Report();
  EXPECT_TRUE(report.kept);
  EXPECT_EQ(cluster_->Status().plan, report.chosen);
}

TEST_F(ClusterAutoTest, PredictsFromWhatWorkersMeasureAndTriesWhatMayBeFastest) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->MeasureAs(3);
  npu_->MeasureAs(0.001);
  gpu_->MeasureEdgesAs(1e-9);
  npu_->MeasureEdgesAs(1e-9);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  PlanReport report = cluster_->Report();
  EXPECT_EQ(report.chosen, "npu");
  ASSERT_EQ(report.trials.size(), 5u);
  for (const PlanTrial& trial : report.trials) {
    EXPECT_TRUE(trial.predicted()) << trial.plan << trial.note;
    EXPECT_EQ(trial.tried(), trial.plan == "npu");
  }
  // begin, embed, two layers of two halves, head
  EXPECT_DOUBLE_EQ(report.trials[2].predicted_decode_seconds, 0.007);
  EXPECT_EQ(report.trials[0].note, "");
  EXPECT_THAT(report.reason, HasSubstr("gpu (gpu0 fake device) would take"));
  // Of what was measured.
  ASSERT_EQ(report.workers.size(), 2u);
  EXPECT_FALSE(report.workers[0].costs.empty());
  EXPECT_FALSE(report.workers[0].kept);
  ASSERT_EQ(report.pairs.size(), 1u);
  EXPECT_DOUBLE_EQ(report.pairs[0].slowdown, 1.5);
  // Two tables, what they are to each other, and the plans.
  EXPECT_EQ(Kept().size(), 4u);
  // Steps are compared with what was predicted for them.
  const GenerationRequest request = Request(7, 30);
  ExpectText(*Submit(request), request);
  report = cluster_->Report();
  ASSERT_EQ(report.steps.size(), 2u);
  EXPECT_FALSE(report.steps[0].prefill);
  EXPECT_DOUBLE_EQ(report.steps[0].predicted_seconds, 0.007);
  EXPECT_GT(report.steps[0].measured_seconds, 0);
  EXPECT_TRUE(report.steps[1].prefill);

  // Without the plans' file the tables are enough: nobody measures again.
  cluster_.reset();
  for (const auto& file : Kept()) {
    if (file.filename().string().starts_with("plans-")) std::filesystem::remove(file);
  }
  StartCluster();
  ASSERT_TRUE(WaitReady());
  report = cluster_->Report();
  EXPECT_FALSE(report.kept);
  EXPECT_EQ(report.chosen, "npu");
  EXPECT_TRUE(report.workers[0].kept);
  EXPECT_EQ(gpu_->measured(), 1);
  EXPECT_EQ(npu_->measured(), 1);

  // Another type of cache makes other times.
  cluster_.reset();
  options_.kv_type = KvType::kFloat32;
  StartCluster();
  ASSERT_TRUE(WaitReady());
  EXPECT_EQ(gpu_->measured(), 2);
  EXPECT_EQ(npu_->measured(), 2);
}

TEST_F(ClusterAutoTest, HandOversAreMeasuredAndCount) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  for (FakeWorker* worker : {gpu_.get(), npu_.get()}) {
    worker->MeasureAs(0.001);
    worker->MeasureEdgesAs(20);
  }
  StartCluster();
  ASSERT_TRUE(WaitReady());
  PlanReport report = cluster_->Report();
  ASSERT_EQ(report.pairs.size(), 1u);
  EXPECT_EQ(report.pairs[0].edge_kind, "host-pointer");
  EXPECT_DOUBLE_EQ(report.pairs[0].hop.seconds, 20);
  EXPECT_DOUBLE_EQ(report.pairs[0].cut_hop.seconds, 30);
  EXPECT_NEAR(report.pairs[0].hop.row_seconds, 0, 1e-9);
  EXPECT_NEAR(report.pairs[0].cut_hop.row_seconds, 0, 1e-9);
  // Embedding and attention, feed-forward, and so on: four hand-overs in two layers.
  EXPECT_NEAR(report.trials[0].predicted_decode_seconds, 80, 1);
  EXPECT_EQ(report.trials[0].note, "");
  EXPECT_FALSE(report.trials[0].tried());
  EXPECT_TRUE(report.trials[1].tried());

  // It is kept, for edges of these kinds.
  cluster_.reset();
  StartCluster();
  ASSERT_TRUE(WaitReady());
  EXPECT_TRUE(cluster_->Report().pairs[0].kept);
  EXPECT_EQ(gpu_->measured(), 1);
}

TEST_F(ClusterAutoTest, StepsAreRunToSeeWhatTheyTakeMoreThanTheirStages) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  npu_->MeasureAs(0.001);
  npu_->RunMeasuredSteps();
  gpu_->MeasureAs(0.01);
  gpu_->RunMeasuredSteps();
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  ASSERT_EQ(report.workers.size(), 2u);
  for (const WorkerCosts& worker : report.workers)
    ASSERT_TRUE(worker.overhead.has_value()) << worker.worker;
  const StepOverhead npu = *report.workers[1].overhead;
  EXPECT_EQ(report.trials[2].plan, "npu");
  EXPECT_DOUBLE_EQ(report.trials[2].predicted_decode_seconds, 0.007 + npu.following_seconds);
  // Steps of the shorter one are sent to both.
  EXPECT_GT(gpu_->measured_steps().first, 0);
  EXPECT_GT(gpu_->measured_steps().second, 0);
  EXPECT_GT(npu_->measured_steps().first, 0);
  EXPECT_EQ(npu_->measured_steps().second, 0);

  // It is kept.
  cluster_.reset();
  StartCluster();
  ASSERT_TRUE(WaitReady());
  EXPECT_EQ(cluster_->Report().workers[1].overhead, npu);
  EXPECT_EQ(npu_->measured(), 1);
}

TEST_F(ClusterAutoTest, BesideLongStepsNoMessagesAreLookedFor) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  npu_->MeasureAs(0.001);
  npu_->RunMeasuredSteps();
  gpu_->MeasureAs(0.1);
  gpu_->RunMeasuredSteps();
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_FALSE(report.workers[0].overhead.has_value());
  EXPECT_TRUE(report.workers[1].overhead.has_value());
  // It is only sent steps beside the other one's.
  EXPECT_EQ(gpu_->measured_steps().first, 0);
  EXPECT_GT(gpu_->measured_steps().second, 0);
}

TEST_F(ClusterAutoTest, StopsWhileAMeasuredStepRuns) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->MeasureAs(0.01);
  gpu_->RunMeasuredSteps();
  gpu_->CloseGate();
  StartCluster();
  gpu_->WaitUntilAStepWaits();
  EXPECT_EQ(cluster_->Ready().message(), "measuring steps of gpu0");
  cluster_.reset();
  EXPECT_TRUE(Kept().empty());
}

TEST_F(ClusterAutoTest, AWorkerThatBreaksOffMeasuredStepsIsPredictedWithoutTheirOverhead) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  npu_->MeasureAs(0.001);
  npu_->RunMeasuredSteps();
  npu_->Inject(FakeWorker::Fault::kBreakStream, 3);
  gpu_->MeasureAs(3);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_FALSE(report.workers[1].overhead.has_value());
  EXPECT_EQ(report.chosen, "npu");
}

TEST_F(ClusterAutoTest, AWorkerThatRefusesMeasuredStepsIsPredictedWithoutTheirOverhead) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  npu_->MeasureAs(0.001);
  gpu_->MeasureAs(3);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_FALSE(report.workers[0].overhead.has_value());
  EXPECT_FALSE(report.workers[1].overhead.has_value());
  EXPECT_DOUBLE_EQ(report.trials[2].predicted_decode_seconds, 0.007);
  EXPECT_EQ(report.chosen, "npu");
}

TEST_F(ClusterAutoTest, HandOversThatCannotBeMeasuredAreLeftOutAndAskedForAgain) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->MeasureAs(1e-9);
  npu_->MeasureAs(1e-9);
  gpu_->MeasureEdgesAs(1e-9);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_EQ(report.trials[0].note, "without hand-overs");
  EXPECT_EQ(report.pairs[0].edge_kind, "");
  // Two tables and the plans.
  EXPECT_EQ(Kept().size(), 3u);
}

TEST_F(ClusterAutoTest, OneThatCannotMeasureLeavesItsPlansToTrials) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  npu_->MeasureAs(1e-9);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_THAT(report.trials[0].note, HasSubstr("it has no stopwatch"));
  EXPECT_TRUE(report.trials[0].tried());
  EXPECT_TRUE(report.trials[1].tried());
  EXPECT_TRUE(report.trials[2].predicted());
  EXPECT_EQ(report.workers[0].error, "it has no stopwatch");
}

TEST_F(ClusterAutoTest, APlanWithoutRoomIsNotEvenTried) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->SetBudget(1);
  gpu_->MeasureAs(1e-9);
  npu_->MeasureAs(1e-9);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_EQ(report.trials[1].plan, "gpu");
  EXPECT_THAT(report.trials[1].error, HasSubstr("KV cache: one context"));
  EXPECT_FALSE(report.trials[1].tried());
  EXPECT_NE(report.chosen, "gpu");
}

TEST_F(ClusterAutoTest, NobodyIsLetInWhileItTries) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->CloseGate();
  StartCluster();
  gpu_->WaitUntilAStepWaits();
  EXPECT_EQ(cluster_->Ready().message(), "trying plan split");
  EXPECT_EQ(cluster_->Status().state, "starting");
  EXPECT_TRUE(absl::IsUnavailable(
      cluster_->Submit(Request(1, 1), std::make_shared<CollectingSink>()).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_->ChangePlan("gpu").status()));
  gpu_->OpenGate();
  ASSERT_TRUE(WaitReady());
}

TEST_F(ClusterAutoTest, APlanThatCannotServeIsNotTaken) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  npu_->RefusePrepare("no such layer here");
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanReport report = cluster_->Report();
  EXPECT_THAT(report.trials[0].error, HasSubstr("no such layer here"));
  EXPECT_EQ(report.trials[1].error, "");
  EXPECT_THAT(report.trials[2].error, HasSubstr("no such layer here"));
  EXPECT_EQ(report.trials[3].plan, "hybrid");
  EXPECT_THAT(report.trials[3].error, HasSubstr("no such layer here"));
  EXPECT_EQ(report.chosen, "gpu");
  EXPECT_EQ(cluster_->Status().plan, "gpu");
}

TEST_F(ClusterAutoTest, WhatWasKeptAndIsNoTrialIsMadeAnew) {
  StartAll();
  cluster_.reset();
  gpu_->Kill();
  npu_->Kill();
  ASSERT_EQ(Kept().size(), 1u);
  std::ofstream(Kept()[0]) << "{\"version\": 1}";
  StartAll();
  EXPECT_FALSE(cluster_->Report().kept);
}

TEST_F(ClusterAutoTest, StopsInTheMiddleOfATrial) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->CloseGate();
  StartCluster();
  gpu_->WaitUntilAStepWaits();
  cluster_.reset();
  EXPECT_TRUE(Kept().empty());
}

TEST_F(ClusterAutoTest, OneWorkerLeavesNothingToTry) {
  options_.workers.pop_back();
  loader_.SetState(v1::LoadProgress::READY);
  gpu_ = std::make_unique<FakeWorker>("gpu0", "gpu", options_.workers[0].address);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  EXPECT_EQ(cluster_->Status().plan, "gpu");
  EXPECT_TRUE(cluster_->Report().trials.empty());
  EXPECT_TRUE(Kept().empty());
}

}  // namespace
}  // namespace tandem
