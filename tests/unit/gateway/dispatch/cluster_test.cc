#include "gateway/dispatch/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include "tests/unit/gateway/dispatch/cluster_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST_F(ClusterTest, SeveralRequestsGetTheirText) {
  StartAll();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  std::vector<GenerationRequest> requests;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    requests.push_back(Request(5 + 9 * static_cast<std::int32_t>(seed), 40, seed));
    requests.back().ignore_eos = seed % 2 == 0;
    sinks.push_back(Submit(requests.back()));
  }
  for (std::size_t i = 0; i < sinks.size(); ++i) ExpectText(*sinks[i], requests[i]);
  EXPECT_GT(npu_->steps(), 0);
}

TEST_F(ClusterTest, StatusAndMetricsTellPlanDevicesAndEdges) {
  StartAll();
  const GenerationRequest request = Request(5, 20);
  ExpectText(*Submit(request), request);
  const ClusterStatus status = cluster_->Status();
  EXPECT_EQ(status.state, "ready");
  EXPECT_EQ(status.plan, "split");
  ASSERT_THAT(status.workers, SizeIs(2));
  EXPECT_TRUE(status.workers[0].connected);
  EXPECT_EQ(status.workers[0].device_name, "fake device");
  EXPECT_THAT(status.workers[1].weight_imports,
              ElementsAre("layer.0.attention: host-pointer", "layer.1.attention: host-pointer"));
  ASSERT_THAT(status.edges, SizeIs(2));
  EXPECT_EQ(status.edges[0].kind, "host-pointer");
  EXPECT_THAT(status.stages, SizeIs(2));
  EXPECT_EQ(status.requests_total, 1u);
  EXPECT_EQ(status.tokens_total, 20u);
  EXPECT_GT(status.decode_tokens_per_second, 0);

  const std::string text = prometheus::TextSerializer().Serialize(registry_->Collect());
  EXPECT_THAT(text, HasSubstr("tandem_steps_total 20"));
  EXPECT_THAT(text, HasSubstr("tandem_cluster_ready 1"));
  EXPECT_THAT(
      text, HasSubstr("tandem_worker_run_seconds_total{device=\"fake device\",worker=\"gpu0\"} 5"));
  EXPECT_THAT(text, HasSubstr("tandem_edge_info{"));
  for (const char* line :
       {"tandem_worker_connected{worker=\"gpu0\"} 1\n",
        "tandem_worker_restarts_total{worker=\"gpu0\"} 0\n",
        "tandem_kv_blocks_reserved{group=\"global\"} 0\n", "tandem_step_sequences_count 20\n",
        "tandem_step_tokens_sum 24\n", "tandem_recoveries_total 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  ASSERT_THAT(status.kv, SizeIs(2));
  EXPECT_EQ(status.kv[0].group, "global");
  EXPECT_GT(status.kv[0].blocks, 0);
}

TEST_F(ClusterTest, PrepareCarriesSizesAndRegions) {
  options_.kv_type = KvType::kFloat16;
  options_.activations = ActivationType::kInt8;
  StartAll();
  const v1::PrepareRequest request = gpu_->prepared();
  EXPECT_EQ(request.worker(), "gpu0");
  EXPECT_EQ(request.fingerprint(), "one");
  EXPECT_EQ(request.region_socket(), "regions.sock");
  EXPECT_EQ(request.limits().max_blocks_per_sequence(), 16);
  EXPECT_EQ(request.global_blocks(), 4 * 16);
  EXPECT_EQ(request.activations(), "int8");
  EXPECT_EQ(request.kv_type(), "float16");
  EXPECT_EQ(request.max_micro_batches(), 2);
  EXPECT_EQ(request.steps_in_flight(), 2);
  // Embedding and two feed-forward halves.
  EXPECT_EQ(request.regions_size(), 3);
  EXPECT_EQ(cluster_->model().context_tokens, 256);
  EXPECT_EQ(cluster_->limits().vocab_size, FakeModel().vocab_size);
}

TEST_F(ClusterTest, PromptScoresComeFirst) {
  StartAll();
  GenerationRequest request = Request(30, 3);
  request.score_prompt = true;
  const auto sink = Submit(request);
  ExpectText(*sink, request);
  const FakeText expected = Expect(FakeModel(), request);
  ASSERT_THAT(sink->text().scores, SizeIs(29));
  for (std::size_t i = 0; i < 29; ++i)
    EXPECT_EQ(sink->text().scores[i].logprob, expected.scores[i].logprob);
}

TEST_F(ClusterTest, TheMeanOfAPromptSurvivesABrokenStream) {
  StartAll();
  GenerationRequest request = Request(90, 0);
  request.pool_prompt = true;
  npu_->Inject(FakeWorker::Fault::kBreakStream, 3);
  const auto sink = Submit(request);
  ExpectText(*sink, request);
  EXPECT_EQ(sink->text().pooled, Expect(FakeModel(), request).pooled);
  EXPECT_EQ(cluster_->Status().recoveries, 1u);
}

TEST_F(ClusterTest, CancelEndsARunningAndAWaitingRequest) {
  options_.limits.max_sequences = 1;
  StartAll();
  gpu_->CloseGate();
  std::uint64_t running = 0;
  std::uint64_t waiting = 0;
  const auto first = Submit(Request(5, 100), &running);
  const auto second = Submit(Request(5, 100), &waiting);
  gpu_->WaitUntilAStepWaits();
  cluster_->Cancel(waiting);
  ASSERT_TRUE(second->WaitFinished());
  EXPECT_EQ(second->text().reason, FinishReason::kCancelled);
  cluster_->Cancel(running);
  ASSERT_TRUE(first->WaitFinished());
  EXPECT_EQ(first->text().reason, FinishReason::kCancelled);
  // Once more: nothing.
  cluster_->Cancel(running);
  gpu_->OpenGate();
  const GenerationRequest request = Request(7, 9);
  ExpectText(*Submit(request), request);
}

TEST_F(ClusterTest, AFullQueueRefuses) {
  StartAll();
  gpu_->CloseGate();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Submit(Request(5, 5)));
  EXPECT_EQ(cluster_->Submit(Request(5, 5), std::make_shared<CollectingSink>()).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(cluster_->Submit(Request(255, 5), std::make_shared<CollectingSink>()).status().code(),
            absl::StatusCode::kInvalidArgument);
  gpu_->OpenGate();
  for (const auto& sink : sinks) EXPECT_TRUE(sink->WaitFinished());
}

TEST_F(ClusterTest, ABrokenStreamIsAPauseAndNotAnError) {
  StartAll();
  for (const auto fault : {FakeWorker::Fault::kBreakStream, FakeWorker::Fault::kFail}) {
    npu_->Inject(fault, 12);
    const GenerationRequest request = Request(20, 60);
    const auto sink = Submit(request);
    const auto other = Submit(Request(3, 30, 7));
    ExpectText(*sink, request);
    ExpectText(*other, Request(3, 30, 7));
  }
  EXPECT_EQ(cluster_->Status().recoveries, 2u);
}

TEST_F(ClusterTest, AWorkerThatDiesAndComesBackIsAPause) {
  StartAll();
  const GenerationRequest request = Request(20, 200);
  gpu_->Inject(FakeWorker::Fault::kHang, 7);
  const auto sink = Submit(request);
  gpu_->WaitUntilAStepWaits();
  gpu_->Kill();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().state == "recovering"; }));
  EXPECT_FALSE(sink->finished());
  // Taken while the cluster recovers.
  const auto late = Submit(Request(4, 4));
  gpu_->OpenGate();
  gpu_->Start();
  ExpectText(*sink, request);
  ExpectText(*late, Request(4, 4));
}

TEST_F(ClusterTest, AHungWorkerIsLeftBehindAfterTheStepTimeout) {
  options_.step_timeout = absl::Milliseconds(100);
  StartAll();
  gpu_->Inject(FakeWorker::Fault::kHang, 5);
  const GenerationRequest request = Request(5, 40);
  const auto sink = Submit(request);
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().recoveries == 1; }));
  gpu_->OpenGate();
  ExpectText(*sink, request);
}

TEST_F(ClusterTest, ARefusedStepEndsItsRequestAndTheNextOneWorks) {
  StartAll();
  gpu_->Inject(FakeWorker::Fault::kRefuse, 3);
  const auto sink = Submit(Request(5, 40));
  ASSERT_TRUE(sink->WaitFinished());
  EXPECT_EQ(sink->text().reason, FinishReason::kError);
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(sink->status().message()), HasSubstr("injected"));
  const GenerationRequest request = Request(6, 10);
  ExpectText(*Submit(request), request);
}

TEST_F(ClusterTest, APoisonedRequestEndsAlone) {
  StartAll();
  const GenerationRequest good = Request(9, 60, 1);
  const GenerationRequest other = Request(12, 60, 2);
  const auto first = Submit(good);
  const auto bad = Submit(Request(7, 60, PoisonedSeed(3, {Poison::Kind::kStep, 30})));
  const auto last = Submit(other);
  ExpectText(*first, good);
  ExpectText(*last, other);
  ASSERT_TRUE(bad->WaitFinished());
  EXPECT_EQ(bad->text().reason, FinishReason::kError);
  EXPECT_EQ(bad->status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(bad->status().message()), HasSubstr("poisoned"));
  EXPECT_GE(cluster_->Status().recoveries, 1u);
}

TEST_F(ClusterTest, AFailedShareEndsItsRequestWithoutARecovery) {
  StartAll();
  const GenerationRequest good = Request(9, 60, 1);
  const auto first = Submit(good);
  const auto bad = Submit(Request(7, 60, PoisonedSeed(3, {Poison::Kind::kSequence, 30})));
  ExpectText(*first, good);
  ASSERT_TRUE(bad->WaitFinished());
  EXPECT_EQ(bad->text().reason, FinishReason::kError);
  EXPECT_THAT(std::string(bad->status().message()), HasSubstr("this one is poisoned"));
  EXPECT_EQ(cluster_->Status().recoveries, 0u);
}

// The step is as large as a step may be, and the requests end; they once made a message that could
// not be sent, for ever.
TEST_F(ClusterTest, ManyLargeLogitBiasesAreServed) {
  options_.limits.max_sequences = 24;
  options_.limits.max_tokens = options_.limits.max_logit_rows = 32;
  options_.max_step_bytes = 64 << 10;
  options_.max_waiting = 0;
  StartAll();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  GenerationRequest request = Request(5, 4);
  for (std::int32_t token = 0; token < FakeModel().vocab_size; ++token)
    request.sampling.logit_bias.emplace_back(token, -1.0f);
  for (int i = 0; i < 24; ++i) sinks.push_back(Submit(request));
  for (const auto& sink : sinks) ExpectText(*sink, request);
  EXPECT_EQ(cluster_->Status().recoveries, 0u);
}

TEST_F(ClusterTest, AfterTheRecoveryTimeoutRequestsEndAndTheClusterStillComesBack) {
  options_.recovery_timeout = absl::Milliseconds(200);
  StartAll();
  npu_->Inject(FakeWorker::Fault::kHang, 7);
  const auto sink = Submit(Request(20, 200));
  npu_->WaitUntilAStepWaits();
  npu_->Kill();
  ASSERT_TRUE(sink->WaitFinished());
  EXPECT_EQ(sink->text().reason, FinishReason::kError);
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(cluster_->Status().state, "failed");
  EXPECT_EQ(cluster_->Submit(Request(1, 1), std::make_shared<CollectingSink>()).status().code(),
            absl::StatusCode::kUnavailable);
  npu_->OpenGate();
  npu_->Start();
  ASSERT_TRUE(WaitReady());
  const GenerationRequest request = Request(6, 10);
  ExpectText(*Submit(request), request);
}

TEST_F(ClusterTest, ReadyTellsHowFarTheStartIs) {
  StartWorkers();
  StartCluster();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Ready().message() == "loading 42 %"; }));
  EXPECT_EQ(cluster_->Submit(Request(1, 1), std::make_shared<CollectingSink>()).status().code(),
            absl::StatusCode::kUnavailable);
  loader_.SetState(v1::LoadProgress::FAILED, "model.safetensors: bad");
  ASSERT_TRUE(WaitFor([this] {
    return cluster_->Ready().message().find("model.safetensors: bad") != std::string::npos;
  }));
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().state == "failed"; }));
  EXPECT_EQ(cluster_->Status().detail, "loader: model.safetensors: bad");
  loader_.SetState(v1::LoadProgress::READY);
  EXPECT_TRUE(WaitReady());
  EXPECT_EQ(cluster_->Status().state, "ready");
}

TEST_F(ClusterTest, AnotherModelIsNotServed) {
  StartAll();
  loader_.SetFingerprint("two");
  gpu_->Inject(FakeWorker::Fault::kFail, 0);
  const auto sink = Submit(Request(5, 5));
  ASSERT_TRUE(WaitFor(
      [this] { return cluster_->Ready().message().find("another model") != std::string::npos; }));
  loader_.SetFingerprint("one");
  ExpectText(*sink, Request(5, 5));
}

TEST_F(ClusterTest, AStrangerAtAWorkersAddressIsNamed) {
  loader_.SetState(v1::LoadProgress::READY);
  gpu_ = std::make_unique<FakeWorker>("gpu7", "gpu", options_.workers[0].address);
  npu_ = std::make_unique<FakeWorker>("npu0", "npu", options_.workers[1].address);
  StartCluster();
  EXPECT_TRUE(WaitFor([this] {
    return cluster_->Ready().message().find("found gpu-worker 'gpu7'") != std::string::npos;
  }));
}

TEST_F(ClusterTest, TheKvCacheIsAsLargeAsTheWorkerWithAttentionHasMemory) {
  loader_.SetState(v1::LoadProgress::READY);
  StartWorkers();
  gpu_->SetBudget(1);
  npu_->SetBudget(1);
  StartCluster();
  ASSERT_TRUE(WaitFor([this] { return cluster_->Status().state == "failed"; }));
  EXPECT_THAT(cluster_->Status().detail,
              HasSubstr("KV cache: one context of 256 tokens needs 0 MiB on worker npu0"));
  // A context of 256 tokens is 16 blocks; four requests run at a time.
  npu_->SetBudget(1 << 30);
  ASSERT_TRUE(WaitReady());
  EXPECT_EQ(npu_->prepared().global_blocks(), 4 * 16);
}

TEST_F(ClusterTest, StoppingEndsWhatRuns) {
  StartAll();
  gpu_->CloseGate();
  const auto sink = Submit(Request(5, 5));
  gpu_->WaitUntilAStepWaits();
  cluster_.reset();
  ASSERT_TRUE(sink->finished());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ClusterTest, StartRefusesWhatCannotWork) {
  options_.workers.pop_back();
  EXPECT_THAT(std::string(Cluster::Start(options_, nullptr).status().message()), HasSubstr("npu"));
  options_.plan = "gpu";
  options_.kv_memory_bytes = 1000;
  EXPECT_THAT(std::string(Cluster::Start(options_, nullptr).status().message()),
              HasSubstr("KV cache"));
  options_.kv_memory_bytes = 0;
  // One more than the fake model has.
  options_.context_tokens = 257;
  EXPECT_EQ(Cluster::Start(options_, nullptr).status().message(),
            "--context: expected at most 256 tokens (what the model was trained for), found 257");
  options_.context_tokens = 0;
  options_.edge_kinds = {};
  EXPECT_THAT(std::string(Cluster::Start(options_, nullptr).status().message()),
              HasSubstr("edge kinds: expected at least one"));
  options_.edge_kinds = {HandleKind::kInline};
  options_.steps_in_flight = 5;
  EXPECT_THAT(std::string(Cluster::Start(options_, nullptr).status().message()),
              HasSubstr("steps_in_flight: expected 1 to 4, found 5"));
  options_.loader_address = folder_.Address("nobody");
  options_.start_timeout = absl::Milliseconds(10);
  EXPECT_EQ(Cluster::Start(options_, nullptr).status().code(), absl::StatusCode::kUnavailable);
  options_.cancelled = [] { return true; };
  EXPECT_EQ(Cluster::Start(options_, nullptr).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace tandem
