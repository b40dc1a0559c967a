// What goes wrong between workers and in their devices: nothing hangs, nothing wrong is served, the
// worker serves on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "lib/step/step_plan.h"
#include "tests/unit/lib/worker/fake_device.h"
#include "tests/unit/lib/worker/test_cluster.h"

namespace tandem {
namespace {

const std::vector<std::string> kHostPointer = {"host-pointer"};
constexpr int kOk = 0;
constexpr int kCancelled = static_cast<int>(absl::StatusCode::kCancelled);
constexpr int kInvalid = static_cast<int>(absl::StatusCode::kInvalidArgument);
constexpr int kDeadline = static_cast<int>(absl::StatusCode::kDeadlineExceeded);
constexpr int kUnavailable = static_cast<int>(absl::StatusCode::kUnavailable);
constexpr int kPrecondition = static_cast<int>(absl::StatusCode::kFailedPrecondition);
constexpr int kInternal = static_cast<int>(absl::StatusCode::kInternal);
constexpr double kForEver = 3000;  // seconds: far beyond the test's own limit

v1::StepPlan FirstStep(const TestCluster& cluster, std::uint64_t generation, double timeout) {
  v1::StepPlan step = NewStep(1, generation, timeout);
  SlotPlanner slot(cluster.config(), 0, 0);
  slot.Start(&step);
  slot.Add(&step, {1, 2, 3})->set_sample(true);
  return step;
}

// A whole step on both workers of `split`: the proof that they serve.
void ExpectServes(TestCluster& cluster, std::uint64_t generation) {
  const grpc::Status started = cluster.Start(cluster.PlanOf("split"), generation, kHostPointer);
  ASSERT_TRUE(started.ok()) << started.error_message();
  StepsClient npu(cluster.worker("npu0"));
  StepsClient gpu(cluster.worker("gpu0"));
  const v1::StepPlan step = FirstStep(cluster, generation, 30);
  ASSERT_TRUE(npu.Send(step) && gpu.Send(step));
  EXPECT_EQ(npu.Receive().code(), kOk);
  const v1::StepResult result = gpu.Receive();
  EXPECT_EQ(result.code(), kOk) << result.error();
  ASSERT_EQ(result.sequences_size(), 1);
  EXPECT_TRUE(result.sequences(0).has_sampled());
}

// Waits on a neighbour that never gets its step.
class LonelyStepTest : public testing::Test {
 protected:
  void Begin(double timeout) {
    const grpc::Status started = cluster_.Start(cluster_.PlanOf("split"), 1, kHostPointer);
    ASSERT_TRUE(started.ok()) << started.error_message();
    npu_ = std::make_unique<StepsClient>(cluster_.worker("npu0"));
    ASSERT_TRUE(npu_->Send(FirstStep(cluster_, 1, timeout)));
  }
  TestCluster cluster_;
  std::unique_ptr<StepsClient> npu_;
};

TEST_F(LonelyStepTest, GivesUpAtItsTimeout) {
  ASSERT_NO_FATAL_FAILURE(Begin(0.05));
  const v1::StepResult result = npu_->Receive();
  EXPECT_EQ(result.code(), kDeadline) << result.error();
  EXPECT_NE(result.error().find("gpu0>npu0"), std::string::npos) << result.error();
  EXPECT_GE(result.wait_seconds(), 0.05);
  ExpectServes(cluster_, 2);
}

TEST_F(LonelyStepTest, AbortCutsWaitAndQueue) {
  ASSERT_NO_FATAL_FAILURE(Begin(kForEver));
  ASSERT_TRUE(npu_->Send(NewStep(2, 1, kForEver)));
  ASSERT_TRUE(npu_->Abort(1));
  EXPECT_EQ(npu_->Receive().code(), kCancelled);
  EXPECT_EQ(npu_->Receive().code(), kCancelled);
  ExpectServes(cluster_, 2);
}

TEST_F(LonelyStepTest, TheEndOfTheStreamAborts) {
  ASSERT_NO_FATAL_FAILURE(Begin(kForEver));
  npu_->Cancel();
  EXPECT_EQ(npu_->Receive().code(), -1);
  // Drain lets the running step finish: it returns only if that was aborted.
  grpc::ClientContext context;
  v1::DrainResponse response;
  EXPECT_TRUE(cluster_.worker("npu0").stub().Drain(&context, {}, &response).ok());
  EXPECT_EQ(cluster_.worker("npu0").Describe().edges_size(), 0);
  ExpectServes(cluster_, 2);
}

TEST_F(LonelyStepTest, DrainingAnOlderGenerationLeavesTheNewerOneAlone) {
  ExpectServes(cluster_, 2);
  for (const std::uint64_t generation : {1, 2}) {
    grpc::ClientContext context;
    v1::DrainRequest request;
    request.set_generation(generation);
    v1::DrainResponse response;
    EXPECT_TRUE(cluster_.worker("npu0").stub().Drain(&context, request, &response).ok());
    EXPECT_EQ(cluster_.worker("npu0").Describe().edges_size() > 0, generation == 1);
  }
}

TEST_F(LonelyStepTest, ANewGenerationReplacesTheRunningOne) {
  ASSERT_NO_FATAL_FAILURE(Begin(kForEver));
  ExpectServes(cluster_, 2);
  // Its own worker cut it short, the other one closed the edge first, or the step came too late.
  EXPECT_THAT(npu_->Receive().code(), testing::AnyOf(kCancelled, kUnavailable, kPrecondition));
}

TEST_F(LonelyStepTest, TheOtherWorkersDeathEndsTheWait) {
  ASSERT_NO_FATAL_FAILURE(Begin(kForEver));
  cluster_.RemoveWorker("gpu0");
  EXPECT_EQ(npu_->Receive().code(), kUnavailable);
  EXPECT_EQ(cluster_.worker("npu0").lost(), 0);
}

TEST(RecoveryTest, StepsGoOnInStepAfterOneSideTimedOut) {
  TestCluster cluster;
  ASSERT_TRUE(cluster.Start(cluster.PlanOf("split"), 1, kHostPointer).ok());
  StepsClient npu(cluster.worker("npu0"));
  StepsClient gpu(cluster.worker("gpu0"));
  // The gpu-worker hands over once, waits and gives up; the npu-worker gets the step only then.
  ASSERT_TRUE(gpu.Send(FirstStep(cluster, 1, 0.05)));
  EXPECT_EQ(gpu.Receive().code(), kDeadline);
  ASSERT_TRUE(npu.Send(FirstStep(cluster, 1, 0.05)));
  EXPECT_NE(npu.Receive().code(), kOk);
  // The slot's contents are undefined now; a fresh start is fine, in the same generation.
  v1::StepPlan step = NewStep(2, 1);
  SlotPlanner slot(cluster.config(), 0, 0);
  v1::StepPlan unused;
  slot.Start(&unused);
  slot.Add(&unused, {1, 2, 3});
  slot.Add(&step, {4})->set_sample(true);
  ASSERT_TRUE(npu.Send(step) && gpu.Send(step));
  EXPECT_EQ(npu.Receive().code(), kPrecondition);
  EXPECT_EQ(gpu.Receive().code(), kPrecondition);
  step = FirstStep(cluster, 1, 30);
  step.set_step_id(3);
  step.add_ends(0);
  ASSERT_TRUE(npu.Send(step) && gpu.Send(step));
  EXPECT_EQ(npu.Receive().code(), kOk);
  const v1::StepResult result = gpu.Receive();
  EXPECT_EQ(result.code(), kOk) << result.error();
}

class AbsentNeighbourTest : public testing::TestWithParam<const char*> {};

TEST_P(AbsentNeighbourTest, ConnectGivesUpAndANewPrepareNeedNotWait) {
  TestCluster cluster;
  const std::vector<std::string> kinds = {GetParam()};
  const Plan plan = cluster.PlanOf("split");
  TestWorker& npu = cluster.worker("npu0");
  grpc::ClientContext first;
  v1::PrepareResponse prepared;
  ASSERT_TRUE(
      npu.stub().Prepare(&first, cluster.PrepareRequestFor("npu0", plan, 1), &prepared).ok());
  {
    grpc::ClientContext context;
    v1::ConnectRequest request = cluster.ConnectRequestFor("npu0", plan, 1, kinds);
    request.set_timeout_seconds(0.05);
    v1::ConnectResponse response;
    EXPECT_EQ(npu.stub().Connect(&context, request, &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  grpc::Status connected;
  std::thread waiting([&] {
    grpc::ClientContext context;
    v1::ConnectRequest request = cluster.ConnectRequestFor("npu0", plan, 1, kinds);
    request.set_timeout_seconds(500);
    v1::ConnectResponse response;
    connected = npu.stub().Connect(&context, request, &response);
  });
  grpc::ClientContext second;
  EXPECT_TRUE(
      npu.stub().Prepare(&second, cluster.PrepareRequestFor("npu0", plan, 2), &prepared).ok());
  waiting.join();
  EXPECT_FALSE(connected.ok());
  ExpectServes(cluster, 3);
}

INSTANTIATE_TEST_SUITE_P(Kinds, AbsentNeighbourTest, testing::Values("host-pointer", "inline"),
                         [](const auto& info) {
                           return std::string(info.param) == "inline" ? "Inline" : "HostPointer";
                         });

TEST(RecoveryTest, OldGenerationsAreRefused) {
  TestCluster cluster;
  ASSERT_NO_FATAL_FAILURE(ExpectServes(cluster, 5));
  EXPECT_EQ(cluster.Start(cluster.PlanOf("split"), 5, kHostPointer).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(cluster.Start(cluster.PlanOf("split"), 4, kHostPointer).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  StepsClient gpu(cluster.worker("gpu0"));
  ASSERT_TRUE(gpu.Send(FirstStep(cluster, 4, 30)));
  EXPECT_EQ(gpu.Receive().code(), kPrecondition);
}

TEST(RecoveryTest, StepsBeforeConnectAreRefused) {
  TestCluster cluster;
  StepsClient gpu(cluster.worker("gpu0"));
  ASSERT_TRUE(gpu.Send(FirstStep(cluster, 1, 30)));
  EXPECT_EQ(gpu.Receive().code(), kPrecondition);
}

TEST(RecoveryTest, TheNewestStreamTakesOver) {
  TestCluster cluster;
  ASSERT_TRUE(cluster.Start(cluster.PlanOf("split"), 1, kHostPointer).ok());
  StepsClient old(cluster.worker("npu0"));
  const v1::StepPlan probe = NewStep(7, 9);  // of no generation: an answer shows that it is served
  ASSERT_TRUE(old.Send(probe));
  EXPECT_EQ(old.Receive().code(), kPrecondition);
  ASSERT_TRUE(old.Send(FirstStep(cluster, 1, kForEver)));
  StepsClient fresh(cluster.worker("npu0"));
  ASSERT_TRUE(fresh.Send(probe));
  EXPECT_EQ(fresh.Receive().code(), kPrecondition);
  EXPECT_EQ(old.Receive().code(), -1);
}

// The Connect may be waiting still for its turn when the Prepare arrives.
TEST(RecoveryTest, AnAnnouncedPrepareEndsConnectsBeforeIt) {
  TestCluster cluster;
  const Plan plan = cluster.PlanOf("split");
  WorkerEngine& engine = cluster.worker("npu0").engine();
  v1::PrepareResponse prepared;
  ASSERT_TRUE(engine.Prepare(cluster.PrepareRequestFor("npu0", plan, 1), &prepared).ok());
  v1::PrepareRequest bad = cluster.PrepareRequestFor("npu0", plan, 2);
  bad.set_kv_type("none");
  EXPECT_TRUE(absl::IsInvalidArgument(engine.Announce(bad)));
  ASSERT_TRUE(engine.Announce(cluster.PrepareRequestFor("npu0", plan, 2)).ok());
  v1::ConnectRequest request = cluster.ConnectRequestFor("npu0", plan, 1, kHostPointer);
  request.set_timeout_seconds(500);
  v1::ConnectResponse response;
  EXPECT_TRUE(absl::IsCancelled(engine.Connect(request, &response)));
}

TEST(PrepareTest, BadRequestsAreRefusedAndNameTheField) {
  TestCluster cluster;
  const Plan plan = cluster.PlanOf("npu");
  const auto expect = [&](const auto& change, const std::string& word) {
    v1::PrepareRequest request = cluster.PrepareRequestFor("npu0", plan, 1);
    change(&request);
    grpc::ClientContext context;
    v1::PrepareResponse response;
    const grpc::Status status = cluster.worker("npu0").stub().Prepare(&context, request, &response);
    EXPECT_FALSE(status.ok()) << word;
    EXPECT_NE(status.error_message().find(word), std::string::npos) << status.error_message();
  };
  expect([](auto* r) { r->set_generation(0); }, "generation");
  expect([](auto* r) { r->set_worker("gpu7"); }, "gpu7");
  expect([](auto* r) { r->mutable_config()->set_hidden_size(0); }, "hidden_size");
  expect([](auto* r) { r->mutable_plan()->mutable_routes(0)->mutable_stages()->RemoveLast(); },
         "head");
  expect([](auto* r) { r->mutable_limits()->set_max_tokens(0); }, "max_tokens");
  expect([](auto* r) { r->set_global_blocks(-1); }, "global_blocks");
  expect([](auto* r) { r->set_activations("float8"); }, "activations");
  expect([](auto* r) { r->set_kv_type(""); }, "kv_type");
  expect([](auto* r) { r->set_max_micro_batches(-1); }, "max_micro_batches: expected 0 to 8");
  expect([](auto* r) { r->set_max_micro_batches(9); }, "max_micro_batches: expected 0 to 8");
  expect([](auto* r) { r->set_steps_in_flight(65); }, "steps_in_flight: expected 0 to 64");
}

TEST(PrepareTest, ManifestsAndSocketsAreChecked) {
  TestCluster cluster;
  const Plan plan = cluster.PlanOf("npu");
  const auto expect = [&](std::uint64_t generation, const auto& change, const std::string& word) {
    v1::PrepareRequest request = cluster.PrepareRequestFor("npu0", plan, generation);
    change(&request);
    grpc::ClientContext context;
    v1::PrepareResponse response;
    const grpc::Status status = cluster.worker("npu0").stub().Prepare(&context, request, &response);
    EXPECT_FALSE(status.ok()) << word;
    EXPECT_NE(status.error_message().find(word), std::string::npos) << status.error_message();
  };
  expect(
      1, [](auto* r) { r->mutable_regions()->RemoveLast(); }, "region");
  expect(
      2, [](auto* r) { r->set_region_socket(r->region_socket() + ".gone"); }, "region");
  EXPECT_EQ(cluster.worker("npu0").lost(), 0);
  EXPECT_TRUE(cluster.Start(plan, 3, {}).ok());
}

// A device whose behaviour the test chooses.
class FakeDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_ = std::make_unique<TestCluster>(
        WeightFormat::kBf16, [this] { return std::make_unique<FakeDevice>(behaviour_); });
    ASSERT_TRUE(cluster_->Start(cluster_->PlanOf("npu"), 1, {}).ok());
    client_ = std::make_unique<StepsClient>(cluster_->worker("npu0"));
  }
  std::shared_ptr<FakeBehaviour> behaviour_ = std::make_shared<FakeBehaviour>();
  std::unique_ptr<TestCluster> cluster_;
  std::unique_ptr<StepsClient> client_;
};

TEST_F(FakeDeviceTest, ALostDeviceIsReported) {
  {
    std::lock_guard lock(behaviour_->mutex);
    behaviour_->wait = [](const auto&) { return absl::UnavailableError("lost"); };
  }
  ASSERT_TRUE(client_->Send(FirstStep(*cluster_, 1, 30)));
  EXPECT_EQ(client_->Receive().code(), kUnavailable);
  EXPECT_EQ(cluster_->worker("npu0").lost(), 1);
}

TEST_F(FakeDeviceTest, ADeviceThatIsTooSlowIsCancelled) {
  behaviour_->runs_until_cancelled = true;
  ASSERT_TRUE(client_->Send(FirstStep(*cluster_, 1, 0.05)));
  EXPECT_EQ(client_->Receive().code(), kDeadline);
  EXPECT_EQ(behaviour_->cancels, 1);
  EXPECT_EQ(cluster_->worker("npu0").lost(), 0);
}

TEST_F(FakeDeviceTest, AbortCancelsTheRunningStage) {
  behaviour_->runs_until_cancelled = true;
  ASSERT_TRUE(client_->Send(FirstStep(*cluster_, 1, kForEver)));
  behaviour_->WaitUntilSubmitted();
  ASSERT_TRUE(client_->Abort(1));
  EXPECT_EQ(client_->Receive().code(), kCancelled);
}

// Steps that were sent before the head's verdict is known still carry the sequence.
TEST_F(FakeDeviceTest, NanLogitsEndTheirSequenceAlone) {
  {
    std::lock_guard lock(behaviour_->mutex);
    behaviour_->logit = [](std::size_t row, std::int32_t token) {
      return row == 0 && token == 3 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    };
  }
  SlotPlanner sick(cluster_->config(), 0, 0);
  SlotPlanner well(cluster_->config(), 1, 10);
  for (std::uint64_t id = 1; id <= 2; ++id) {
    v1::StepPlan step = NewStep(id, 1);
    if (id == 1) sick.Start(&step), well.Start(&step);
    sick.Add(&step, {id == 1 ? 5 : kSampledToken})->set_sample(true);
    well.Add(&step, {id == 1 ? 6 : kSampledToken})->set_sample(true);
    ASSERT_TRUE(client_->Send(step));
  }
  {
    const v1::StepResult result = client_->Receive();
    EXPECT_EQ(result.code(), kOk) << result.error();
    ASSERT_EQ(result.sequences_size(), 2);
    EXPECT_EQ(result.sequences(0).slot(), 0);
    EXPECT_EQ(result.sequences(0).code(), kInternal) << result.sequences(0).error();
    EXPECT_FALSE(result.sequences(0).has_sampled());
    EXPECT_EQ(result.sequences(1).code(), kOk);
    EXPECT_TRUE(result.sequences(1).has_sampled());
  }
  // Of the sick sequence no logits are asked for any more: row 0 is now the well one's, and bad.
  const v1::StepResult result = client_->Receive();
  EXPECT_EQ(result.code(), kOk) << result.error();
  ASSERT_EQ(result.sequences_size(), 2);
  EXPECT_EQ(result.sequences(0).code(), kInternal);
  EXPECT_EQ(result.sequences(1).slot(), 1);
  EXPECT_EQ(result.sequences(1).code(), kInternal);
  // The slots serve again once they have ended.
  {
    std::lock_guard lock(behaviour_->mutex);
    behaviour_->logit = [](std::size_t, std::int32_t) { return 0.0f; };
  }
  v1::StepPlan step = FirstStep(*cluster_, 1, 30);
  step.set_step_id(3);
  step.add_ends(0);
  ASSERT_TRUE(client_->Send(step));
  EXPECT_TRUE(client_->Receive().sequences(0).has_sampled());
}

TEST_F(FakeDeviceTest, ResultsComeInTheOrderOfTheSteps) {
  SlotPlanner slot(cluster_->config(), 1, 0);
  for (std::uint64_t id = 1; id <= 40; ++id) {
    v1::StepPlan step = NewStep(id, 1);
    if (id == 1) slot.Start(&step);
    slot.Add(&step, {static_cast<std::int32_t>(id)})->set_sample(true);
    ASSERT_TRUE(client_->Send(step));
  }
  for (std::uint64_t id = 1; id <= 40; ++id) {
    const v1::StepResult result = client_->Receive();
    EXPECT_EQ(result.code(), kOk) << result.error();
    EXPECT_EQ(result.step_id(), id);
  }
}

TEST_F(FakeDeviceTest, AFullQueueAnswersAtOnce) {
  behaviour_->runs_until_cancelled = true;
  ASSERT_TRUE(client_->Send(FirstStep(*cluster_, 1, kForEver)));
  behaviour_->WaitUntilSubmitted();
  const auto exhausted = static_cast<int>(absl::StatusCode::kResourceExhausted);
  for (std::uint64_t id = 2; id <= StepLoop::kMaxQueuedSteps + 2; ++id)
    ASSERT_TRUE(client_->Send(NewStep(id, 1, kForEver)));
  const v1::StepResult refused = client_->Receive();
  EXPECT_EQ(refused.code(), exhausted);
  EXPECT_EQ(refused.step_id(), StepLoop::kMaxQueuedSteps + 2);
  ASSERT_TRUE(client_->Abort(1));
  for (std::size_t i = 0; i <= StepLoop::kMaxQueuedSteps; ++i)
    EXPECT_EQ(client_->Receive().code(), kCancelled);
}

TEST_F(FakeDeviceTest, MalformedStepsChangeNothing) {
  ASSERT_TRUE(client_->Send(FirstStep(*cluster_, 1, 30)));
  EXPECT_EQ(client_->Receive().code(), kOk);
  v1::StepPlan bad = NewStep(2, 1);
  v1::SequenceShare* share = bad.add_sequences();
  share->set_first_position(3);
  share->add_tokens(-1);
  bad.add_micro_batch_ends(2);
  ASSERT_TRUE(client_->Send(bad));
  const v1::StepResult refused = client_->Receive();
  EXPECT_EQ(refused.code(), kInvalid);
  EXPECT_NE(refused.error().find("micro_batch_ends: expected the last to be 1, found 2"),
            std::string::npos)
      << refused.error();
  bad.set_step_id(3);
  bad.clear_micro_batch_ends();
  ASSERT_TRUE(client_->Send(bad));
  const v1::StepResult served = client_->Receive();
  EXPECT_EQ(served.code(), kOk) << served.error();
  EXPECT_EQ(behaviour_->submits, 2);
}

// Both workers leave the share out, also of the step that was sent ahead; the neighbours of the
// bad sequence do not notice.
class FaultTest : public testing::TestWithParam<const char*> {};

TEST_P(FaultTest, ABadShareEndsAloneOnAllWorkers) {
  TestCluster cluster;
  ASSERT_TRUE(cluster.Start(cluster.PlanOf("split"), 1, {GetParam()}).ok());
  StepsClient npu(cluster.worker("npu0"));
  StepsClient gpu(cluster.worker("gpu0"));
  SlotPlanner good(cluster.config(), 0, 0);
  SlotPlanner bad(cluster.config(), 1, 10);
  for (std::uint64_t id = 1; id <= 3; ++id) {
    v1::StepPlan step = NewStep(id, 1);
    if (id == 1) bad.Start(&step), good.Start(&step);
    v1::SequenceShare* share = bad.Add(&step, {4, 5});
    share->set_sample(true);
    if (id == 2) share->add_new_global_blocks(40);
    good.Add(&step, {7, 8, 9})->set_sample(true);
    // In the second step nothing is left of the first micro-batch.
    step.add_micro_batch_ends(2);
    step.add_micro_batch_ends(5);
    ASSERT_TRUE(npu.Send(step) && gpu.Send(step));
  }
  for (std::uint64_t id = 1; id <= 3; ++id) {
    const v1::StepResult from_npu = npu.Receive();
    const v1::StepResult from_gpu = gpu.Receive();
    EXPECT_EQ(from_npu.code(), kOk) << from_npu.error();
    EXPECT_EQ(from_gpu.code(), kOk) << from_gpu.error();
    ASSERT_EQ(from_gpu.sequences_size(), 2);
    EXPECT_EQ(from_gpu.sequences(0).code(), id == 1 ? kOk : kInvalid);
    EXPECT_TRUE(from_gpu.sequences(1).has_sampled());
    ASSERT_EQ(from_npu.sequences_size(), id == 1 ? 0 : 1);
    if (id == 1) continue;
    EXPECT_EQ(from_npu.sequences(0).error(), from_gpu.sequences(0).error());
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FaultTest, testing::Values("host-pointer", "inline"),
                         [](const auto& info) {
                           return std::string(info.param) == "inline" ? "Inline" : "HostPointer";
                         });

}  // namespace
}  // namespace tandem
