#include "gateway/dispatch/cluster_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <mutex>
#include <utility>
#include <vector>

namespace tandem {
namespace {

template <typename Builder>
auto& Family(Builder builder, prometheus::Registry& registry, const char* name, const char* help) {
  return builder.Name(name).Help(help).Register(registry);
}

const prometheus::Histogram::BucketBoundaries kStepSeconds = {
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 120};

const prometheus::Histogram::BucketBoundaries kStepTokens = {1,   2,   4,   8,    16,   32,  64,
                                                             128, 256, 512, 1024, 2048, 4096};
const prometheus::Histogram::BucketBoundaries kStepSequences = {1,  2,   4,   8,   16,  32,
                                                                64, 128, 256, 512, 1024};

}  // namespace

struct ClusterMetrics::Families {
  explicit Families(std::shared_ptr<prometheus::Registry> r)
      : registry(std::move(r)),
        steps(Counter("tandem_steps_total", "Steps completed.")),
        step_seconds(
            Family(prometheus::BuildHistogram(), *registry, "tandem_step_seconds",
                   "Time of a step, from sending it, or from the end of the one before it, to its "
                   "last answer.")
                .Add({}, kStepSeconds)),
        step_tokens(Family(prometheus::BuildHistogram(), *registry, "tandem_step_tokens",
                           "Tokens computed by a step.")
                        .Add({}, kStepTokens)),
        step_sequences(Family(prometheus::BuildHistogram(), *registry, "tandem_step_sequences",
                              "Requests that had a share in a step: its batch size.")
                           .Add({}, kStepSequences)),
        decode_tokens(Counter("tandem_decode_tokens_total",
                              "Tokens computed one at a time for a running answer.")),
        prefill_tokens(Counter("tandem_prefill_tokens_total",
                               "Tokens of prompts computed, replays included.")),
        recoveries(Counter("tandem_recoveries_total",
                           "Times that the cluster had to be brought up again.")),
        replayed(Counter("tandem_replayed_requests_total",
                         "Running requests that had to start over because workers lost their "
                         "state.")),
        running(Gauge("tandem_requests_running", "Requests that hold a slot.")),
        waiting(Gauge("tandem_requests_waiting", "Requests in the queue.")),
        running_limit(
            Gauge("tandem_requests_running_limit", "Requests that can hold a slot at a time.")),
        waiting_limit(Gauge("tandem_requests_waiting_limit",
                            "Requests that may wait beside those; further ones are refused.")),
        kv_blocks(GaugeFamily("tandem_kv_blocks", "Blocks of the KV cache.")),
        kv_reserved(GaugeFamily("tandem_kv_blocks_reserved",
                                "Blocks that are kept for the requests that run.")),
        kv_taken(GaugeFamily("tandem_kv_blocks_taken", "Blocks that hold keys and values.")),
        worker_restarts(Family(prometheus::BuildCounter(), *registry,
                               "tandem_worker_restarts_total",
                               "Times that another process took a worker's place.")),
        worker_connected(
            GaugeFamily("tandem_worker_connected", "1 while the worker takes part in the steps.")),
        ready(Gauge("tandem_cluster_ready", "1 while steps can run.")),
        run_seconds(Family(prometheus::BuildCounter(), *registry, "tandem_worker_run_seconds_total",
                           "Time of a worker's stages on its device.")),
        wait_seconds(Family(prometheus::BuildCounter(), *registry,
                            "tandem_worker_wait_seconds_total",
                            "Time that a worker waited for its neighbours.")),
        edge_info(Family(prometheus::BuildGauge(), *registry, "tandem_edge_info",
                         "1 for each open edge between two workers.")) {}

  prometheus::Counter& Counter(const char* name, const char* help) {
    return Family(prometheus::BuildCounter(), *registry, name, help).Add({});
  }
  prometheus::Gauge& Gauge(const char* name, const char* help) {
    return GaugeFamily(name, help).Add({});
  }
  prometheus::Family<prometheus::Gauge>& GaugeFamily(const char* name, const char* help) {
    return Family(prometheus::BuildGauge(), *registry, name, help);
  }

  // Looked up once: the same for every step.
  struct Kv {
    prometheus::Gauge* blocks;
    prometheus::Gauge* reserved;
    prometheus::Gauge* taken;
  };
  Kv KvOf(const char* group) {
    const prometheus::Labels labels = {{"group", group}};
    return {&kv_blocks.Add(labels), &kv_reserved.Add(labels), &kv_taken.Add(labels)};
  }

  std::shared_ptr<prometheus::Registry> registry;
  prometheus::Counter& steps;
  prometheus::Histogram& step_seconds;
  prometheus::Histogram& step_tokens;
  prometheus::Histogram& step_sequences;
  prometheus::Counter& decode_tokens;
  prometheus::Counter& prefill_tokens;
  prometheus::Counter& recoveries;
  prometheus::Counter& replayed;
  prometheus::Gauge& running;
  prometheus::Gauge& waiting;
  prometheus::Gauge& running_limit;
  prometheus::Gauge& waiting_limit;
  prometheus::Family<prometheus::Gauge>& kv_blocks;
  prometheus::Family<prometheus::Gauge>& kv_reserved;
  prometheus::Family<prometheus::Gauge>& kv_taken;
  const std::array<Kv, 2> kv = {KvOf("global"), KvOf("window")};
  prometheus::Family<prometheus::Counter>& worker_restarts;
  prometheus::Family<prometheus::Gauge>& worker_connected;
  prometheus::Gauge& ready;
  prometheus::Family<prometheus::Counter>& run_seconds;
  prometheus::Family<prometheus::Counter>& wait_seconds;
  prometheus::Family<prometheus::Gauge>& edge_info;
  std::mutex mutex;
  // Guarded.
  std::vector<prometheus::Gauge*> edges;
};

ClusterMetrics::ClusterMetrics(std::shared_ptr<prometheus::Registry> registry) {
  if (registry != nullptr) families_ = std::make_unique<Families>(std::move(registry));
}
ClusterMetrics::~ClusterMetrics() = default;

void ClusterMetrics::Step(absl::Duration seconds, std::int32_t decode_tokens,
                          std::int32_t prefill_tokens, std::int32_t sequences) {
  if (families_ == nullptr) return;
  families_->step_tokens.Observe(decode_tokens + prefill_tokens);
  families_->step_sequences.Observe(sequences);
  families_->steps.Increment();
  families_->step_seconds.Observe(absl::ToDoubleSeconds(seconds));
  families_->decode_tokens.Increment(decode_tokens);
  families_->prefill_tokens.Increment(prefill_tokens);
}

void ClusterMetrics::Requests(std::int32_t running, std::int32_t waiting) {
  if (families_ == nullptr) return;
  families_->running.Set(running);
  families_->waiting.Set(waiting);
}

void ClusterMetrics::Limits(std::int32_t running, std::int32_t waiting) {
  if (families_ == nullptr) return;
  families_->running_limit.Set(running);
  families_->waiting_limit.Set(waiting);
}

void ClusterMetrics::Kv(KvGroup group, std::int32_t blocks, std::int32_t reserved,
                        std::int32_t taken) {
  if (families_ == nullptr) return;
  const Families::Kv& kv = families_->kv[static_cast<std::size_t>(group)];
  kv.blocks->Set(blocks);
  kv.reserved->Set(reserved);
  kv.taken->Set(taken);
}

void ClusterMetrics::Ready(bool ready) {
  if (families_ != nullptr) families_->ready.Set(ready ? 1 : 0);
}

void ClusterMetrics::Recoveries(std::uint64_t more) {
  if (families_ != nullptr && more > 0) families_->recoveries.Increment(static_cast<double>(more));
}

void ClusterMetrics::Replayed(std::int32_t requests) {
  if (families_ != nullptr && requests > 0) families_->replayed.Increment(requests);
}

void ClusterMetrics::WorkerRestarted(const std::string& worker, std::uint32_t times) {
  if (families_ != nullptr) families_->worker_restarts.Add({{"worker", worker}}).Increment(times);
}

void ClusterMetrics::WorkerConnected(const std::string& worker, bool connected) {
  if (families_ != nullptr) families_->worker_connected.Add({{"worker", worker}}).Set(connected);
}

ClusterMetrics::WorkerTimes ClusterMetrics::Worker(const std::string& worker,
                                                   const std::string& device) {
  if (families_ == nullptr) return {};
  const prometheus::Labels labels = {{"worker", worker}, {"device", device}};
  return {&families_->run_seconds.Add(labels), &families_->wait_seconds.Add(labels)};
}

void ClusterMetrics::WorkerTimes::Add(absl::Duration run_time, absl::Duration wait_time) const {
  if (run == nullptr) return;
  run->Increment(absl::ToDoubleSeconds(run_time));
  wait->Increment(absl::ToDoubleSeconds(wait_time));
}

void ClusterMetrics::ClearEdges() {
  if (families_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(families_->mutex);
  for (prometheus::Gauge* edge : families_->edges) families_->edge_info.Remove(edge);
  families_->edges.clear();
}

void ClusterMetrics::Edge(const std::string& id, const std::string& from, const std::string& to,
                          const std::string& kind) {
  if (families_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(families_->mutex);
  prometheus::Gauge& edge =
      families_->edge_info.Add({{"id", id}, {"from", from}, {"to", to}, {"kind", kind}});
  edge.Set(1);
  families_->edges.push_back(&edge);
}

}  // namespace tandem
