#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lib/base/trace.h"
#include "lib/constrain/token_masks.h"
#include "lib/device/device.h"
#include "lib/worker/edge_connect.h"
#include "lib/worker/inline_edge.h"
#include "lib/worker/stage_timer.h"
#include "lib/worker/step_loop.h"
#include "lib/worker/weights_store.h"

namespace tandem::v1 {
class ConnectRequest;
class ConnectResponse;
class EdgeCosts;
class MeasureEdgesRequest;
class MeasureStagesRequest;
class PrepareRequest;
class PrepareResponse;
class ProcessTrace;
class RepeatStagesRequest;
class StageCosts;
class WorkerDescription;
}  // namespace tandem::v1

namespace tandem {

struct PlanPart;

// A worker without its network: one device, its weights, its KV cache and one generation of stages
// and edges. The calls of tandem.v1.Worker, made by the gRPC shell (service.h) or by a test. All
// calls from any thread; Prepare, Connect, Drain and the measuring ones block, and run one after
// another.
class WorkerEngine {
 public:
  struct Options {
    std::string name;  // as it calls itself; the plan may call it otherwise
    WorkerRole role = WorkerRole::kGpu;
    std::string fd_socket;  // where edge handshakes arrive; empty: none, only inline edges
    std::uint64_t device_losses = 0;  // of processes before this one
    absl::Duration probe_interval = absl::Seconds(10);
    std::function<void(const absl::Status&)>
        on_device_lost;                           // from any thread; must not return in production
    std::function<void(bool serving)> on_health;  // after every probe, from any thread
  };
  // Starts the handshake socket and probes the device.
  static absl::StatusOr<std::unique_ptr<WorkerEngine>> Create(Options options,
                                                              std::unique_ptr<Device> device);
  ~WorkerEngine();

  void Describe(v1::WorkerDescription* description);
  // Where the process' own /metrics listens, for Describe.
  void SetMetricsAddress(std::string address);
  // What its steps did, from event `next` on (lib/base/trace.h).
  void Trace(std::uint64_t next, v1::ProcessTrace* trace);
  absl::Status Prepare(const v1::PrepareRequest& request, v1::PrepareResponse* response);
  absl::Status Connect(const v1::ConnectRequest& request, v1::ConnectResponse* response);
  absl::Status MeasureStages(const v1::MeasureStagesRequest& request, v1::StageCosts* response);
  absl::Status RepeatStages(const v1::RepeatStagesRequest& request, v1::StageCosts* response);
  absl::Status MeasureEdges(const v1::MeasureEdgesRequest& request, v1::EdgeCosts* response);
  // Ends the generation that is there, unless it is newer than this one; 0: whichever it is.
  void Drain(std::uint64_t generation);
  // A Prepare has arrived and will run later: checks it, and ends soon what runs or waits for
  // earlier generations, so that it need not wait for them.
  absl::Status Announce(const v1::PrepareRequest& request);
  absl::Status Announce(const v1::MeasureStagesRequest& request);
  // The second half of it; with the largest number there is, for a worker that stops.
  void Supersede(std::uint64_t generation);

  StepLoop& steps() { return *steps_; }
  InlineInbox& inbox() { return inbox_; }

 private:
  WorkerEngine(Options options, std::unique_ptr<Device> device);
  void TearDown(const std::string& reason);
  // A new generation in the place of what there is. With control_mutex_ held.
  absl::Status TakeGeneration(std::uint64_t generation);
  // Something newer was announced.
  bool Superseded(std::uint64_t generation);
  // Until a newer generation is announced. With control_mutex_ held.
  absl::StatusOr<std::vector<std::unique_ptr<Edge>>> ConnectEdges(std::vector<EdgeEndSpec> specs,
                                                                  std::uint64_t generation,
                                                                  Deadline deadline);
  void Probe();
  void SetHealthy(bool healthy);
  // Keeps the vocabulary for constraints, where the request has it.
  absl::Status TakeVocabulary(const v1::PrepareRequest& request, PlanPart& part);
  // A device that is lost ends the process; other errors are the caller's.
  absl::Status Checked(absl::Status status);

  const Options options_;
  std::unique_ptr<Device> device_;
  std::string host_;
  WeightsStore weights_;  // changed under control_mutex_
  std::unique_ptr<EdgeListener> listener_;
  InlineInbox inbox_;

  std::mutex control_mutex_;  // Prepare, Connect, Drain, measuring and probes: one at a time
  std::unique_ptr<PlanPart> part_;
  // Until the generation that measured ends, or hand-overs are timed; its steps have it, too.
  std::shared_ptr<StageTimer> timer_;
  // Until the generation that measured ends.
  std::optional<StageTimerSpec> measured_;
  // Compiled grammars, and the fingerprint of the model that they are for.
  std::shared_ptr<MaskCache> masks_;
  std::string masks_model_;

  std::mutex state_mutex_;  // below it only what Describe and Supersede read; never held for long
  std::uint64_t generation_number_ = 0;
  // the highest generation announced: a Connect of one before it is over
  std::uint64_t newest_ = 0;
  EdgeConnector* connector_ = nullptr;
  std::string metrics_address_;
  std::unique_ptr<v1::WorkerDescription> prepared_;  // plan, weights, KV bytes of the generation

  std::atomic<bool> healthy_{false};

  TraceRecorder trace_;
  std::unique_ptr<StepLoop> steps_;  // last: its thread probes
};

}  // namespace tandem
