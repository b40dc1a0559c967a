#include "gateway/dispatch/cluster_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ClusterMetricsTest : public ::testing::Test {
 protected:
  std::string Text() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  ClusterMetrics metrics_{registry_};
};

TEST_F(ClusterMetricsTest, EachSaysWhatHappened) {
  metrics_.Step(absl::Milliseconds(30), 3, 16, 4);
  metrics_.Step(absl::Milliseconds(10), 4, 0, 4);
  metrics_.Requests(4, 9);
  metrics_.Limits(32, 64);
  metrics_.Kv(ClusterMetrics::KvGroup::kGlobal, 100, 40, 30);
  metrics_.Kv(ClusterMetrics::KvGroup::kWindow, 50, 20, 10);
  metrics_.Ready(true);
  metrics_.Recoveries(2);
  metrics_.Replayed(5);
  metrics_.WorkerRestarted("gpu0", 3);
  metrics_.WorkerConnected("gpu0", true);
  metrics_.WorkerConnected("npu0", false);
  metrics_.Worker("gpu0", "a GPU").Add(absl::Seconds(2), absl::Seconds(1));
  const std::string text = Text();
  for (const char* line : {
           "tandem_steps_total 2\n",
           "tandem_step_seconds_count 2\n",
           "tandem_step_seconds_bucket{le=\"0.01\"} 1\n",
           "tandem_step_seconds_bucket{le=\"0.05\"} 2\n",
           "tandem_step_tokens_sum 23\n",
           "tandem_step_sequences_bucket{le=\"2\"} 0\n",
           "tandem_step_sequences_bucket{le=\"4\"} 2\n",
           "tandem_decode_tokens_total 7\n",
           "tandem_prefill_tokens_total 16\n",
           "tandem_requests_running 4\n",
           "tandem_requests_waiting 9\n",
           "tandem_requests_running_limit 32\n",
           "tandem_requests_waiting_limit 64\n",
           "tandem_kv_blocks{group=\"global\"} 100\n",
           "tandem_kv_blocks_reserved{group=\"global\"} 40\n",
           "tandem_kv_blocks_taken{group=\"window\"} 10\n",
           "tandem_cluster_ready 1\n",
           "tandem_recoveries_total 2\n",
           "tandem_replayed_requests_total 5\n",
           "tandem_worker_restarts_total{worker=\"gpu0\"} 3\n",
           "tandem_worker_connected{worker=\"gpu0\"} 1\n",
           "tandem_worker_connected{worker=\"npu0\"} 0\n",
           "tandem_worker_run_seconds_total{device=\"a GPU\",worker=\"gpu0\"} 2\n",
           "tandem_worker_wait_seconds_total{device=\"a GPU\",worker=\"gpu0\"} 1\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(ClusterMetricsTest, EdgesAreThoseThatAreOpen) {
  metrics_.Edge("1", "npu0", "gpu0", "dma-buf");
  EXPECT_THAT(Text(), HasSubstr("tandem_edge_info{from=\"npu0\",id=\"1\",kind=\"dma-buf\","
                                "to=\"gpu0\"} 1\n"));
  metrics_.ClearEdges();
  EXPECT_THAT(Text(), Not(HasSubstr("npu0")));
}

TEST(RateWindow, CountsTheLastTenSeconds) {
  RateWindow rate;
  EXPECT_EQ(rate.PerSecond(absl::Seconds(100)), 0);
  for (int second = 100; second < 120; ++second)
    rate.Add(50, absl::Seconds(second) + absl::Milliseconds(500));
  EXPECT_NEAR(rate.PerSecond(absl::Seconds(120)), 50, 6);
  EXPECT_EQ(rate.PerSecond(absl::Seconds(140)), 0);
}

TEST(RateWindow, AFreshStartIsNotSlowness) {
  RateWindow rate;
  rate.Add(30, absl::Seconds(7));
  rate.Add(30, absl::Seconds(8));
  EXPECT_NEAR(rate.PerSecond(absl::Seconds(9)), 30, 0.1);
}

}  // namespace
}  // namespace tandem
