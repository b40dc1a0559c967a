#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"

namespace prometheus {
class Counter;
class Registry;
}  // namespace prometheus

namespace tandem {

// Events a second over the last ten seconds, in buckets of one. Time is a Duration since some fixed
// moment and never runs back.
class RateWindow {
 public:
  static constexpr std::int64_t kSeconds = 10;

  void Add(std::int64_t count, absl::Duration now) {
    Bucket& bucket = buckets_[static_cast<std::size_t>(absl::ToInt64Seconds(now) % kSeconds)];
    if (bucket.second != absl::ToInt64Seconds(now)) bucket = {absl::ToInt64Seconds(now), 0};
    bucket.count += count;
  }
  // Over the time since the first bucket that is still in the window began, so that a start is not
  // seen as slowness.
  double PerSecond(absl::Duration now) const {
    const std::int64_t second = absl::ToInt64Seconds(now);
    std::int64_t count = 0;
    std::int64_t first = second;
    for (const Bucket& bucket : buckets_) {
      if (bucket.count == 0 || bucket.second <= second - kSeconds) continue;
      count += bucket.count;
      first = bucket.second < first ? bucket.second : first;
    }
    const double seconds = absl::ToDoubleSeconds(now) - static_cast<double>(first);
    return count == 0 ? 0.0 : static_cast<double>(count) / (seconds < 1.0 ? 1.0 : seconds);
  }

 private:
  struct Bucket {
    std::int64_t second = -1;
    std::int64_t count = 0;
  };
  std::array<Bucket, kSeconds> buckets_;
};

// The cluster's metrics in a Prometheus registry; without a registry every method does nothing.
// Thread-safe.
class ClusterMetrics {
 public:
  explicit ClusterMetrics(std::shared_ptr<prometheus::Registry> registry);
  ~ClusterMetrics();

  // tandem_steps_total, tandem_step_seconds, tandem_step_tokens, tandem_step_sequences,
  // tandem_decode_tokens_total, tandem_prefill_tokens_total
  void Step(absl::Duration seconds, std::int32_t decode_tokens, std::int32_t prefill_tokens,
            std::int32_t sequences);
  // tandem_requests_running, tandem_requests_waiting
  void Requests(std::int32_t running, std::int32_t waiting);
  // tandem_requests_running_limit, tandem_requests_waiting_limit
  void Limits(std::int32_t running, std::int32_t waiting);
  // tandem_kv_blocks, tandem_kv_blocks_reserved, tandem_kv_blocks_taken {group}
  enum class KvGroup : std::uint8_t { kGlobal = 0, kWindow = 1 };
  void Kv(KvGroup group, std::int32_t blocks, std::int32_t reserved, std::int32_t taken);
  // tandem_cluster_ready: 1 or 0
  void Ready(bool ready);
  // tandem_recoveries_total
  void Recoveries(std::uint64_t more);
  // tandem_replayed_requests_total
  void Replayed(std::int32_t requests);
  // tandem_worker_restarts_total, tandem_worker_connected {worker}: from the first call on
  void WorkerRestarted(const std::string& worker, std::uint32_t times);
  void WorkerConnected(const std::string& worker, bool connected);
  // tandem_worker_run_seconds_total, tandem_worker_wait_seconds_total {worker,device}: time of its
  // stages on the device, and for neighbours. Looked up once, then counted without looking up.
  struct WorkerTimes {
    prometheus::Counter* run = nullptr;
    prometheus::Counter* wait = nullptr;
    void Add(absl::Duration run_time, absl::Duration wait_time) const;
  };
  WorkerTimes Worker(const std::string& worker, const std::string& device);
  // tandem_edge_info{id,from,to,kind} is 1 for the edges that are open
  void ClearEdges();
  void Edge(const std::string& id, const std::string& from, const std::string& to,
            const std::string& kind);

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace tandem
