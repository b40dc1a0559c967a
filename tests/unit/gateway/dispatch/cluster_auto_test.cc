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
  ASSERT_EQ(report.trials.size(), 3u);
  EXPECT_FALSE(report.kept);
  for (const PlanTrial& trial : report.trials) {
    EXPECT_EQ(trial.error, "");
    EXPECT_GT(trial.decode_seconds, 0);
    EXPECT_THAT(trial.devices, HasSubstr("fake device"));
  }
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
