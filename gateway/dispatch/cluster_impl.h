#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gateway/dispatch/cluster.h"
#include "gateway/dispatch/cluster_metrics.h"
#include "gateway/dispatch/coordinator.h"
#include "gateway/dispatch/kv_plan.h"
#include "gateway/dispatch/loader_link.h"
#include "gateway/dispatch/rate_window.h"
#include "gateway/dispatch/worker_link.h"

namespace tandem {

// What Start has made out of options and model.
struct ClusterSetup {
  ClusterOptions options;
  ServedModel model;
  v1::ModelConfig config;  // model.config again, as it is sent
  KvPlan kv;
  std::vector<ClusterWorker> workers;  // those of the plan; their order gives a worker's index
  std::vector<std::string> regions;    // all that the plan needs
  RecoveryOptions recovery;
  SchedulerOptions scheduler;
  std::size_t head = 0;
};
absl::StatusOr<ClusterSetup> MakeClusterSetup(ClusterOptions options, const v1::Model& model);

// Everything below `mutex_` is guarded by it; the engine thread alone writes what the workers and
// the loader have told, so it reads that without the lock. gRPC's threads and the loader's bring
// messages through Post. No call to gRPC and none to a sink is made under the lock.
class Cluster::Impl {
 public:
  Impl(ClusterSetup setup, std::unique_ptr<LoaderLink> loader,
       std::shared_ptr<prometheus::Registry> registry);
  ~Impl();

  EngineLimits limits() const {
    return {setup_.model.context_tokens, setup_.model.config.vocab_size};
  }
  absl::Status Ready() const;
  absl::StatusOr<std::uint64_t> Submit(GenerationRequest request,
                                       std::shared_ptr<GenerationSink> sink);
  void Cancel(std::uint64_t handle);
  const ServedModel& model() const { return setup_.model; }
  ClusterStatus Status() const;

 private:
  // runs on the engine thread, under the lock
  using Message = std::function<void(absl::Duration now)>;
  struct Delivery {
    RequestEvent event;
    std::shared_ptr<GenerationSink> sink;
  };
  // What a worker has told in this or the last round.
  struct Known {
    v1::WorkerDescription description;
    v1::PrepareResponse prepared;
    v1::ConnectResponse connected;
  };

  void Post(Message message);
  static absl::Duration Now();

  // The engine thread.
  void Run();
  void WaitForWork(std::unique_lock<std::mutex>& lock);
  std::vector<Delivery> Collect(Coordinator::Effects& effects);
  static void Deliver(std::vector<Delivery> deliveries);
  void FailRemaining();

  void Act(const RecoveryAction& action);
  void Load(const RecoveryAction& action);
  void Describe(const RecoveryAction& action);
  void Prepare(const RecoveryAction& action);
  void Connect(const RecoveryAction& action);
  void Serve(const RecoveryAction& action);
  void SendStep(const Coordinator::Effects& effects);
  absl::Status CheckDescription(std::size_t worker, const v1::WorkerDescription& description) const;
  void OnStepResult(std::uint64_t round, std::size_t worker, const v1::StepResult& result);

  // Under the lock.
  std::string State() const;
  std::string Detail() const;

  const ClusterSetup setup_;
  ClusterMetrics metrics_;
  std::unique_ptr<LoaderLink> loader_;
  std::vector<std::unique_ptr<WorkerLink>> links_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  bool woken_ = false;
  std::vector<Message> inbox_;
  Coordinator coordinator_;
  std::unordered_map<std::uint64_t, std::shared_ptr<GenerationSink>> sinks_;
  std::uint64_t next_handle_ = 1;
  std::uint64_t tokens_total_ = 0;
  RateWindow decode_rate_;
  RateWindow prefill_rate_;
  std::string load_text_ = "loading";
  LoaderLink::Loaded loaded_;
  std::vector<Known> known_;

  std::thread engine_;
};

}  // namespace tandem
