#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tandem/v1/trace.pb.h"

namespace tandem {

// What a cluster did for some seconds: collected from the gateway's answers, on the gateway's
// clock.
class ClusterTrace {
 public:
  // Beyond it nothing is added: some 200 MB.
  static constexpr std::size_t kMaxEvents = 4'000'000;

  struct Event {
    std::uint64_t step_id = 0;
    std::int64_t begin_ns = 0;
    std::int64_t end_ns = 0;
    v1::TraceOp op = v1::TRACE_BEGIN;
    std::int32_t index = 0;
    std::int32_t micro_batch = 0;
  };
  struct Process {
    std::int64_t pid = 0;
    std::int64_t offset_ns = 0;
    // Of the answer that came fastest: it knows the offset best. 0: none yet.
    std::int64_t round_trip_ns = 0;
    std::uint64_t lost = 0;
    std::vector<std::string> stages;
    std::vector<std::string> edges;
    std::vector<std::string> workers;
    // In the order of time, on the process's own clock.
    std::vector<Event> events;
  };

  // INVALID_ARGUMENT where an answer is not whole. Sets *more when a process had more to say.
  absl::Status Add(const v1::TraceResponse& response, bool* more);
  // For the next question.
  v1::TraceRequest NextRequest() const;
  bool full() const { return events_ >= kMaxEvents; }

  const std::map<std::string, Process>& processes() const { return processes_; }
  const std::string& plan() const { return plan_; }
  // "ffn 3", "wait for gpu0>npu0".
  static std::string NameOf(const Process& process, const Event& event);

 private:
  std::map<std::string, Process> processes_;
  std::map<std::string, std::uint64_t> next_;
  std::string plan_;
  std::size_t events_ = 0;
};

// How well the devices were used between the first and the last stage that ran.
struct TraceSummary {
  struct Worker {
    std::string name;
    std::uint64_t runs = 0;
    // Of the time in which a stage ran.
    double busy_share = 0;
    // From the end of the last stage of a step to the begin of the next step's first.
    std::uint64_t gaps = 0;
    double idle_mean_us = 0;
    double idle_p50_us = 0;
    double idle_p99_us = 0;
  };
  std::vector<Worker> workers;
  double seconds = 0;
  std::uint64_t steps = 0;
  // Of the time in which any worker computed, and two or more at once.
  double any_share = 0;
  double overlap_share = 0;
  std::uint64_t lost = 0;
};
TraceSummary Summarize(const ClusterTrace& trace);
std::string Describe(const ClusterTrace& trace, const TraceSummary& summary);

// Chrome's trace format, which Perfetto reads, too; the summary stands in `otherData`.
void WriteChromeTrace(const ClusterTrace& trace, const TraceSummary& summary, std::FILE* file);

}  // namespace tandem
