#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"

namespace prometheus {
class Registry;
}

namespace tandem {

// The cluster's metrics in a Prometheus registry; without a registry every method does nothing.
// Thread-safe.
class ClusterMetrics {
 public:
  explicit ClusterMetrics(std::shared_ptr<prometheus::Registry> registry);
  ~ClusterMetrics();

  // tandem_steps_total, tandem_step_seconds, tandem_decode_tokens_total,
  // tandem_prefill_tokens_total
  void Step(absl::Duration seconds, std::int32_t decode_tokens, std::int32_t prefill_tokens);
  // tandem_requests_running, tandem_requests_waiting
  void Requests(std::int32_t running, std::int32_t waiting);
  // tandem_cluster_ready: 1 or 0
  void Ready(bool ready);
  // tandem_recoveries_total
  void Recovery();
  // tandem_worker_run_seconds_total, tandem_worker_wait_seconds_total {worker,device}: time of its
  // stages on the device, and for neighbours
  void Worker(const std::string& worker, const std::string& device, double run_seconds,
              double wait_seconds);
  // tandem_edge_info{id,from,to,kind} is 1 for the edges that are open
  void ClearEdges();
  void Edge(const std::string& id, const std::string& from, const std::string& to,
            const std::string& kind);

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace tandem
