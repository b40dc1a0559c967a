#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/dispatch/auto_plan.h"
#include "gateway/dispatch/model_info.h"
#include "gateway/schedule/engine.h"
#include "gateway/schedule/step_bounds.h"
#include "lib/model/kinds.h"
#include "lib/model/step_limits.h"

namespace tandem::v1 {
class TraceRequest;
class TraceResponse;
}  // namespace tandem::v1

namespace prometheus {
class Registry;
}

namespace tandem {

class SpanExporter;

struct ClusterWorker {
  // "gpu0"
  std::string name;
  WorkerRole role = WorkerRole::kGpu;
  // gRPC: "unix:/run/.../gpu0.sock" or "host:port".
  std::string address;
};

struct ClusterOptions {
  std::string loader_address;
  std::vector<ClusterWorker> workers;
  // MakePlan of lib/model/plan.h, or kAutoPlan.
  std::string plan;
  // Where the trials of kAutoPlan are kept from start to start; empty: nowhere.
  std::string cache_folder;
  // allowed, in this order
  std::vector<HandleKind> edge_kinds = {HandleKind::kDmaBuf, HandleKind::kHostPointer,
                                        HandleKind::kInline};
  std::int32_t edge_slots = 2;
  ActivationType activations = ActivationType::kAuto;
  KvType kv_type = KvType::kFloat16;
  // max_blocks_per_sequence follows from the context.
  StepLimits limits;
  // limits.max_tokens is what somebody asked for: else an encoder, which computes a text in one
  // step, gets steps as long as its context.
  bool step_tokens_given = false;
  // 0: kDefaultContextTokens, or the model's max_positions where that is less. More than the model
  // has is INVALID_ARGUMENT.
  std::int32_t context_tokens = 0;
  // of the KV cache, all layers; 0: what the workers' devices have for it (PlanKvCacheOver)
  std::uint64_t kv_memory_bytes = 0;
  // Requests that may wait beyond limits.max_sequences.
  std::int32_t max_waiting = 64;
  // Prefill tokens of a step that also decodes.
  std::int32_t mixed_prefill_tokens = 256;
  // Steps that are sent before the first one's results are back: the workers then never wait for
  // the gateway. 1 to 4.
  std::int32_t steps_in_flight = 2;
  // Most micro-batches of a step, up to 4, and the fewest tokens of one. 0: two where the stages of
  // the plan alternate between workers (split), else one.
  std::int32_t micro_batches = 0;
  std::int32_t min_micro_batch_tokens = 32;
  // Bound of one step's message.
  std::int64_t max_step_bytes = kDefaultStepBytes;
  // For the loader to answer at all.
  absl::Duration start_timeout = absl::Minutes(5);
  absl::Duration recovery_timeout = absl::Seconds(60);
  // A worker that dies is noticed at once; this is for one that hangs. A long prompt on a slow
  // device takes minutes.
  absl::Duration step_timeout = absl::Minutes(5);
  absl::Duration prepare_timeout = absl::Minutes(10);
  absl::Duration connect_timeout = absl::Seconds(60);
  // Where requests are traced to; outlives the cluster. Null: nowhere.
  SpanExporter* spans = nullptr;
  // Asked now and then while Start waits; may be empty.
  std::function<bool()> cancelled;
  // Called when Status().state has changed, on the engine thread: it must not call the cluster. May
  // be empty.
  std::function<void()> on_state_change;
};
inline constexpr std::int32_t kDefaultContextTokens = 8192;
// For a worker that does not say how much it has.
inline constexpr std::uint64_t kDefaultKvMemoryBytes = std::uint64_t{1} << 30;

// The cluster behind the Engine interface: fetches the model from the loader, brings the workers up
// under the plan, runs steps, and brings everything up again when a worker goes away (requests then
// pause, and go on with the same text).
//
// One engine thread decides (gateway/dispatch/coordinator.h) and calls the sinks; gRPC's threads
// carry messages. All methods: any thread, cheap. The destructor ends what runs with kError
// UNAVAILABLE, and calls no sink after it has returned.
class Cluster final : public Engine {
 public:
  // Waits for the loader to answer, checks plan and sizes, and returns; the workers come up in the
  // background: Ready() tells. Errors: INVALID_ARGUMENT (options, plan), UNAVAILABLE (no loader
  // within start_timeout), CANCELLED. `registry` gets the metrics; it may be null.
  static absl::StatusOr<std::unique_ptr<Cluster>> Start(
      ClusterOptions options, std::shared_ptr<prometheus::Registry> registry);
  ~Cluster() override;

  EngineLimits limits() const override;
  // The message tells how far it is: "loading 42 %".
  absl::Status Ready() const override;
  absl::StatusOr<std::uint64_t> Submit(GenerationRequest request,
                                       std::shared_ptr<GenerationSink> sink) override;
  void Cancel(std::uint64_t handle) override;

  // Changes the plan: running requests go on under the new one, with the same text. Returns at
  // once, with the number under which Status().plan_change tells how it goes. A worker that does
  // not answer, and a plan that does not come to serve, leave the plan as it was. INVALID_ARGUMENT:
  // the name, or a worker that the plan needs and the cluster has not; FAILED_PRECONDITION: another
  // change is in progress.
  absl::StatusOr<std::uint64_t> ChangePlan(const std::string& name);

  // What kAutoPlan has chosen, and why; without trials where it was not asked for, had nothing to
  // choose, or still tries.
  PlanReport Report() const;

  const ServedModel& model() const;
  ClusterStatus Status() const;
  // As TraceCollector::Read.
  absl::Status Trace(const v1::TraceRequest& request, v1::TraceResponse* response);

 private:
  class Impl;
  explicit Cluster(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
