#pragma once

#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gateway/dispatch/cluster.h"
#include "tests/unit/gateway/dispatch/fake_cluster.h"

namespace tandem {

// The cluster over real gRPC on Unix sockets, against workers and a loader in this process.
class ClusterTest : public ::testing::Test {
 protected:
  ClusterTest() {
    options_.loader_address = folder_.Address("loader");
    options_.workers = {{"gpu0", WorkerRole::kGpu, folder_.Address("gpu0")},
                        {"npu0", WorkerRole::kNpu, folder_.Address("npu0")}};
    options_.plan = "split";
    options_.limits = {
        .max_tokens = 16, .max_sequences = 4, .max_logit_rows = 8, .max_blocks_per_sequence = 0};
    options_.context_tokens = 256;
    options_.max_waiting = 2;
    options_.mixed_prefill_tokens = 8;
    options_.step_timeout = absl::Seconds(20);
  }

  void StartWorkers() {
    gpu_ = std::make_unique<FakeWorker>("gpu0", "gpu", options_.workers[0].address);
    npu_ = std::make_unique<FakeWorker>("npu0", "npu", options_.workers[1].address);
  }

  void StartCluster() {
    absl::StatusOr<std::unique_ptr<Cluster>> cluster = Cluster::Start(options_, registry_);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
  }

  void StartAll() {
    loader_.SetState(v1::LoadProgress::READY);
    StartWorkers();
    StartCluster();
    ASSERT_TRUE(WaitReady());
  }

  static constexpr absl::Duration kLong = absl::Seconds(30);
  // Polls a condition that has no event of its own.
  template <typename Condition>
  static bool WaitFor(Condition condition) {
    const absl::Time end = absl::Now() + kLong;
    while (!condition()) {
      if (absl::Now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  bool WaitReady() {
    return WaitFor([this] { return cluster_->Ready().ok(); });
  }

  static GenerationRequest Request(std::int32_t prompt_tokens, std::int32_t max_tokens,
                                   std::uint64_t seed = 1) {
    GenerationRequest request;
    for (std::int32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back(2 + i);
    request.max_tokens = max_tokens;
    request.sampling.seed = seed;
    request.ignore_eos = true;
    return request;
  }

  std::shared_ptr<CollectingSink> Submit(const GenerationRequest& request,
                                         std::uint64_t* handle = nullptr) {
    auto sink = std::make_shared<CollectingSink>();
    const absl::StatusOr<std::uint64_t> submitted = cluster_->Submit(request, sink);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    if (handle != nullptr && submitted.ok()) *handle = *submitted;
    return sink;
  }

  void ExpectText(CollectingSink& sink, const GenerationRequest& request) {
    ASSERT_TRUE(sink.WaitFinished());
    const FakeText expected = Expect(FakeModel(), request);
    EXPECT_TRUE(sink.status().ok()) << sink.status();
    EXPECT_EQ(sink.text().tokens, expected.tokens);
    EXPECT_EQ(sink.text().reason, expected.reason);
  }

  SocketFolder folder_;
  ClusterOptions options_;
  FakeLoader loader_{folder_.Address("loader")};
  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::unique_ptr<FakeWorker> gpu_;
  std::unique_ptr<FakeWorker> npu_;
  std::unique_ptr<Cluster> cluster_;
};

}  // namespace tandem
