// A change of the plan on a cluster that serves.
#include <gmock/gmock.h>

#include "tests/unit/gateway/dispatch/cluster_fixture.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class PlanChangeTest : public ClusterTest {
 protected:
  // Waits until the change is over, and gives how it went.
  PlanChange Change(const std::string& name) {
    const absl::StatusOr<std::uint64_t> number = cluster_->ChangePlan(name);
    EXPECT_TRUE(number.ok()) << number.status();
    if (!number.ok()) return {};
    PlanChange change;
    EXPECT_TRUE(WaitFor([&] {
      change = cluster_->Status().plan_change;
      return change.number == *number && change.state != "running";
    }));
    return change;
  }
};

TEST_F(PlanChangeTest, RunningRequestsGoOnWithTheSameText) {
  StartAll();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  std::vector<GenerationRequest> requests;
  gpu_->CloseGate();
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    requests.push_back(Request(5 + static_cast<std::int32_t>(seed), 100, seed));
    sinks.push_back(Submit(requests.back()));
  }
  gpu_->WaitUntilAStepWaits();
  const absl::StatusOr<std::uint64_t> number = cluster_->ChangePlan("npu");
  ASSERT_TRUE(number.ok()) << number.status();
  gpu_->OpenGate();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().plan_change.state == "done"; }));
  const ClusterStatus status = cluster_->Status();
  EXPECT_EQ(status.plan, "npu");
  EXPECT_FALSE(status.workers[0].in_plan);
  EXPECT_FALSE(status.workers[0].connected);
  EXPECT_TRUE(status.workers[1].connected);
  for (std::size_t i = 0; i < sinks.size(); ++i) ExpectText(*sinks[i], requests[i]);
  EXPECT_EQ(cluster_->Status().recoveries, 0u);
  EXPECT_EQ(npu_->prepared().plan().name(), "npu");
  EXPECT_EQ(npu_->prepared().max_micro_batches(), 1);
  EXPECT_TRUE(WaitFor([this] { return gpu_->drains() == 1; }));
  // And back, to a worker that had no part meanwhile.
  EXPECT_EQ(Change("split").state, "done");
  EXPECT_EQ(gpu_->prepared().max_micro_batches(), 2);
  const GenerationRequest request = Request(7, 9);
  ExpectText(*Submit(request), request);
}

TEST_F(PlanChangeTest, WhatCannotBeIsRefused) {
  options_.workers.pop_back();
  options_.plan = "gpu";
  loader_.SetState(v1::LoadProgress::READY);
  gpu_ = std::make_unique<FakeWorker>("gpu0", "gpu", options_.workers[0].address);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const absl::Status unknown = cluster_->ChangePlan("fastest").status();
  EXPECT_TRUE(absl::IsInvalidArgument(unknown));
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("found 'fastest'"));
  const absl::Status missing = cluster_->ChangePlan("split").status();
  EXPECT_TRUE(absl::IsInvalidArgument(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("expected a worker of role 'npu'"));
  EXPECT_EQ(cluster_->Status().plan_change.number, 0u);
  // What is there already is no change.
  EXPECT_EQ(Change("gpu").state, "done");
  EXPECT_EQ(gpu_->prepared().generation(), 1u);
}

TEST_F(PlanChangeTest, AWorkerThatDoesNotAnswerLeavesEverythingAsItIs) {
  options_.plan = "gpu";
  loader_.SetState(v1::LoadProgress::READY);
  gpu_ = std::make_unique<FakeWorker>("gpu0", "gpu", options_.workers[0].address);
  StartCluster();
  ASSERT_TRUE(WaitReady());
  const PlanChange change = Change("npu");
  EXPECT_EQ(change.state, "failed");
  EXPECT_THAT(change.error, HasSubstr("worker npu0: "));
  EXPECT_EQ(cluster_->Status().plan, "gpu");
  EXPECT_TRUE(cluster_->Ready().ok());
  // The generation is the one before.
  EXPECT_EQ(gpu_->prepared().generation(), 1u);
}

TEST_F(PlanChangeTest, AWorkerThatDiesMeanwhileEndsNoQuestionToAnother) {
  options_.plan = "gpu";
  StartAll();
  npu_->HoldDescriptions();
  ASSERT_TRUE(cluster_->ChangePlan("npu").ok());
  npu_->WaitUntilItIsAsked();
  gpu_->Kill();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().recoveries == 1; }));
  npu_->GiveDescriptions();
  PlanChange change;
  ASSERT_TRUE(WaitFor([&] {
    change = cluster_->Status().plan_change;
    return change.state != "running";
  }));
  EXPECT_EQ(change.error, "");
  EXPECT_EQ(cluster_->Status().plan, "npu");
}

TEST_F(PlanChangeTest, APlanThatDoesNotComeToServeIsTakenBack) {
  StartAll();
  npu_->RefusePrepare("no room for all of it");
  gpu_->CloseGate();
  const GenerationRequest request = Request(9, 80);
  const auto sink = Submit(request);
  gpu_->WaitUntilAStepWaits();
  const absl::StatusOr<std::uint64_t> number = cluster_->ChangePlan("npu");
  ASSERT_TRUE(number.ok()) << number.status();
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_->ChangePlan("gpu").status()));
  gpu_->OpenGate();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().plan_change.state == "failed"; }));
  EXPECT_THAT(cluster_->Status().plan_change.error, HasSubstr("npu0: preparing: no room"));
  npu_->RefusePrepare("");
  ExpectText(*sink, request);
  EXPECT_EQ(cluster_->Status().plan, "split");
}

TEST_F(PlanChangeTest, AnotherPlanRescuesAClusterWhoseWorkerIsGone) {
  StartAll();
  gpu_->Inject(FakeWorker::Fault::kHang, 7);
  const GenerationRequest request = Request(9, 80);
  const auto sink = Submit(request);
  gpu_->WaitUntilAStepWaits();
  gpu_->Kill();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().state == "recovering"; }));
  EXPECT_EQ(Change("npu").state, "done");
  ExpectText(*sink, request);
}

}  // namespace
}  // namespace tandem
