#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/dispatch/cluster.h"
#include "gateway/schedule/scheduler.h"
#include "lib/step/step_plan.h"
#include "lib/telemetry/span_exporter.h"

namespace tandem {

// What the cluster does for each traced request, as spans below the gateway's: `queue` until its
// first step is sent, and on every worker `prefill` and `decode`. Workers have no network but their
// sockets: they say in every result when they began and ended the step and how long their device
// ran, and their spans are made of that here. While nothing is traced a step costs nothing. One
// thread at a time.
class RequestTraces {
 public:
  // `exporter` may be null or off: nothing is traced. Answers name workers by their index.
  RequestTraces(SpanExporter* exporter, const std::vector<ClusterWorker>& workers);

  // A request was queued under this id.
  void Submitted(std::uint64_t id, const GenerationRequest& request);
  // Each step once, in order; step ids begin anew in each round.
  void Sent(std::uint64_t round, const StepPlan& plan);
  void Answered(std::uint64_t round, std::size_t worker, const StepResult& result);
  // The request has ended: its spans leave.
  void Finished(std::uint64_t id, const absl::Status& status);

 private:
  enum Phase : std::uint8_t { kPrefill, kDecode };
  // Of one request on one worker.
  struct Work {
    std::int64_t begin_ns = 0;
    std::int64_t end_ns = 0;
    std::int64_t steps = 0;
    std::int64_t tokens = 0;
    absl::Duration run;
    absl::Duration wait;
  };
  struct Traced {
    TraceContext parent;
    std::string id;
    std::int64_t queued_ns = 0;
    // 0: not yet.
    std::int64_t first_step_ns = 0;
    // By worker.
    std::vector<std::array<Work, 2>> work;
  };
  struct Share {
    std::uint64_t request = 0;
    Phase phase = kPrefill;
    std::int64_t tokens = 0;
  };
  struct Step {
    std::uint64_t round = 0;
    std::uint64_t step_id = 0;
    // Of traced requests.
    std::vector<Share> shares;
  };
  Step& StepOf(std::uint64_t step_id) { return steps_[step_id % steps_.size()]; }
  // With what is common to all of a request.
  void Add(const Traced& traced, Span span);

  SpanExporter* exporter_;
  std::vector<SpanSource> sources_;
  std::unordered_map<std::uint64_t, Traced> traced_;
  // Those in flight.
  std::array<Step, kMostStepsInFlight> steps_;
};

}  // namespace tandem
