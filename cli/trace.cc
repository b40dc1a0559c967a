#include "cli/trace.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr char kGateway[] = "gateway";
// Sums of a few such times do not overflow.
constexpr std::int64_t kLongestTime = std::int64_t{1} << 60;

std::string Named(const std::vector<std::string>& names, std::int32_t index, const char* what) {
  const bool known = index >= 0 && static_cast<std::size_t>(index) < names.size();
  return known ? names[static_cast<std::size_t>(index)] : absl::StrCat(what, " ", index);
}

template <typename Names>
void Keep(const Names& from, std::vector<std::string>* to) {
  if (!from.empty()) to->assign(from.begin(), from.end());
}

double Quantile(const std::vector<double>& sorted, double at) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<std::size_t>(at * static_cast<double>(sorted.size() - 1))];
}

struct Change {
  std::int64_t at_ns;
  int busy;
};

// How long at least one, and at least two were busy.
std::pair<std::int64_t, std::int64_t> BusyTimes(std::vector<Change> changes) {
  std::sort(changes.begin(), changes.end(), [](const Change& a, const Change& b) {
    return a.at_ns != b.at_ns ? a.at_ns < b.at_ns : a.busy < b.busy;
  });
  std::int64_t one = 0;
  std::int64_t two = 0;
  std::int64_t before = 0;
  int busy = 0;
  for (const Change& change : changes) {
    if (busy >= 1) one += change.at_ns - before;
    if (busy >= 2) two += change.at_ns - before;
    busy += change.busy;
    before = change.at_ns;
  }
  return {one, two};
}

TraceSummary::Worker SummarizeWorker(const std::string& name, const ClusterTrace::Process& process,
                                     std::int64_t span_ns) {
  TraceSummary::Worker worker;
  worker.name = name;
  std::vector<double> gaps;
  std::int64_t run_ns = 0;
  double sum = 0;
  const ClusterTrace::Event* before = nullptr;
  for (const ClusterTrace::Event& event : process.events) {
    if (event.op != v1::TRACE_RUN) continue;
    ++worker.runs;
    run_ns += event.end_ns - event.begin_ns;
    if (before != nullptr && before->step_id != event.step_id) {
      gaps.push_back(static_cast<double>(event.begin_ns - before->end_ns) * 1e-3);
      sum += gaps.back();
    }
    before = &event;
  }
  std::sort(gaps.begin(), gaps.end());
  worker.busy_share = span_ns > 0 ? static_cast<double>(run_ns) / static_cast<double>(span_ns) : 0;
  worker.gaps = gaps.size();
  worker.idle_mean_us = gaps.empty() ? 0 : sum / static_cast<double>(gaps.size());
  worker.idle_p50_us = Quantile(gaps, 0.5);
  worker.idle_p99_us = Quantile(gaps, 0.99);
  return worker;
}

nlohmann::json ToJson(const ClusterTrace& trace, const TraceSummary& summary) {
  nlohmann::json workers = nlohmann::json::array();
  for (const TraceSummary::Worker& worker : summary.workers) {
    workers.push_back({{"name", worker.name},
                       {"runs", worker.runs},
                       {"busy_share", worker.busy_share},
                       {"idle_between_steps_us",
                        {{"count", worker.gaps},
                         {"mean", worker.idle_mean_us},
                         {"p50", worker.idle_p50_us},
                         {"p99", worker.idle_p99_us}}}});
  }
  return {{"plan", trace.plan()},
          {"seconds", summary.seconds},
          {"steps", summary.steps},
          {"any_share", summary.any_share},
          {"overlap_share", summary.overlap_share},
          {"lost_events", summary.lost},
          {"workers", workers}};
}

}  // namespace

absl::Status ClusterTrace::Add(const v1::TraceResponse& response, bool* more) {
  *more = false;
  plan_ = response.plan();
  for (const v1::ProcessTrace& from : response.processes()) {
    const int count = from.op_size();
    if (from.index_size() != count || from.micro_batch_size() != count ||
        from.step_id_size() != count || from.begin_ns_size() != count ||
        from.duration_ns_size() != count) {
      return absl::InvalidArgumentError(
          absl::StrCat("trace of '", from.process(), "': its columns differ in length"));
    }
    Process& process = processes_[from.process()];
    // A process that was started again counts from 1 again.
    const bool restarted = process.pid != 0 && process.pid != from.pid();
    process.pid = from.pid();
    process.lost += from.lost();
    if (process.round_trip_ns == 0 || restarted || from.round_trip_ns() < process.round_trip_ns) {
      process.round_trip_ns = from.round_trip_ns();
      process.offset_ns = from.offset_ns();
    }
    Keep(from.stages(), &process.stages);
    Keep(from.edges(), &process.edges);
    Keep(from.workers(), &process.workers);
    next_[from.process()] = from.next();
    *more |= count > 0 && from.next() != 0 && count >= (1 << 14);
    if (from.offset_ns() < -kLongestTime || from.offset_ns() > kLongestTime) {
      return absl::InvalidArgumentError(
          absl::StrCat("trace of '", from.process(), "': its clock is too far away"));
    }
    for (int i = 0; i < count && !full(); ++i, ++events_) {
      if (from.begin_ns(i) < 0 || from.begin_ns(i) > kLongestTime || from.duration_ns(i) < 0 ||
          from.duration_ns(i) > kLongestTime) {
        return absl::InvalidArgumentError(
            absl::StrCat("trace of '", from.process(), "': event ", i, " is at no time"));
      }
      process.events.push_back({from.step_id(i), from.begin_ns(i),
                                from.begin_ns(i) + from.duration_ns(i), from.op(i), from.index(i),
                                from.micro_batch(i)});
    }
  }
  return absl::OkStatus();
}

v1::TraceRequest ClusterTrace::NextRequest() const {
  v1::TraceRequest request;
  for (const auto& [process, next] : next_) (*request.mutable_next())[process] = next;
  return request;
}

std::string ClusterTrace::NameOf(const Process& process, const Event& event) {
  const auto edge = [&] { return Named(process.edges, event.index, "edge"); };
  switch (event.op) {
    case v1::TRACE_BEGIN:
      return "begin";
    case v1::TRACE_WAIT_DATA:
      return absl::StrCat("wait for ", edge());
    case v1::TRACE_WAIT_SPACE:
      return absl::StrCat("wait for space in ", edge());
    case v1::TRACE_RUN:
      return Named(process.stages, event.index, "stage");
    case v1::TRACE_RELEASE:
      return absl::StrCat("release ", edge());
    case v1::TRACE_PUBLISH:
      return absl::StrCat("publish ", edge());
    case v1::TRACE_SAMPLE:
      return "sample";
    case v1::TRACE_SCHEDULE:
      return "schedule";
    case v1::TRACE_SEND:
      return "send";
    case v1::TRACE_RESULT:
      return absl::StrCat("result of ", Named(process.workers, event.index, "worker"));
    default:
      return absl::StrCat("event ", static_cast<int>(event.op));
  }
}

TraceSummary Summarize(const ClusterTrace& trace) {
  TraceSummary summary;
  std::vector<Change> changes;
  std::set<std::uint64_t> steps;
  for (const auto& [name, process] : trace.processes()) {
    summary.lost += process.lost;
    for (const ClusterTrace::Event& event : process.events) {
      if (event.op != v1::TRACE_RUN) continue;
      changes.push_back({event.begin_ns + process.offset_ns, 1});
      changes.push_back({event.end_ns + process.offset_ns, -1});
      steps.insert(event.step_id);
    }
  }
  summary.steps = steps.size();
  std::int64_t first = 0;
  std::int64_t last = 0;
  for (const Change& change : changes) {
    first = first == 0 ? change.at_ns : std::min(first, change.at_ns);
    last = std::max(last, change.at_ns);
  }
  const std::int64_t span = last - first;
  const auto [one, two] = BusyTimes(std::move(changes));
  summary.seconds = static_cast<double>(span) * 1e-9;
  if (span > 0) {
    summary.any_share = static_cast<double>(one) / static_cast<double>(span);
    summary.overlap_share = static_cast<double>(two) / static_cast<double>(span);
  }
  for (const auto& [name, process] : trace.processes()) {
    if (name != kGateway) summary.workers.push_back(SummarizeWorker(name, process, span));
  }
  return summary;
}

std::string Describe(const ClusterTrace& trace, const TraceSummary& summary) {
  std::string text = absl::StrFormat("plan %s: %d steps in %.2f s\n", trace.plan(), summary.steps,
                                     summary.seconds);
  absl::StrAppendFormat(&text, "%-12s %8s %8s   idle between steps, us:  %10s %10s %10s\n",
                        "worker", "runs", "busy", "mean", "p50", "p99");
  for (const TraceSummary::Worker& worker : summary.workers) {
    absl::StrAppendFormat(&text, "%-12s %8d %7.1f%%   %23s  %10.1f %10.1f %10.1f\n", worker.name,
                          worker.runs, 100 * worker.busy_share, "", worker.idle_mean_us,
                          worker.idle_p50_us, worker.idle_p99_us);
  }
  absl::StrAppendFormat(&text, "a worker computes %.1f%% of the time, two or more at once %.1f%%\n",
                        100 * summary.any_share, 100 * summary.overlap_share);
  if (summary.lost > 0) {
    absl::StrAppendFormat(&text, "%d events were overwritten before they were read\n",
                          summary.lost);
  }
  return text;
}

void WriteChromeTrace(const ClusterTrace& trace, const TraceSummary& summary, std::FILE* file) {
  std::int64_t first = 0;
  for (const auto& [name, process] : trace.processes()) {
    if (process.events.empty()) continue;
    const std::int64_t begin = process.events.front().begin_ns + process.offset_ns;
    first = first == 0 ? begin : std::min(first, begin);
  }
  std::fprintf(file, "{\"displayTimeUnit\":\"ms\",\"otherData\":%s,\"traceEvents\":[",
               ToJson(trace, summary).dump().c_str());
  // A number of its own for each process: those of several hosts may have the same pid.
  int number = 0;
  for (const auto& [name, process] : trace.processes()) {
    std::fprintf(file,
                 "%s\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":%s}}",
                 number == 0 ? "" : ",", number + 1, nlohmann::json(name).dump().c_str());
    ++number;
    for (const ClusterTrace::Event& event : process.events) {
      std::fprintf(file,
                   ",\n{\"ph\":\"X\",\"name\":%s,\"pid\":%d,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,"
                   "\"args\":{\"step\":%llu,\"micro_batch\":%d}}",
                   nlohmann::json(ClusterTrace::NameOf(process, event)).dump().c_str(), number,
                   static_cast<double>(event.begin_ns + process.offset_ns - first) * 1e-3,
                   static_cast<double>(event.end_ns - event.begin_ns) * 1e-3,
                   static_cast<unsigned long long>(event.step_id), event.micro_batch);
    }
  }
  std::fprintf(file, "\n]}\n");
}

namespace {

// How often the gateway is asked: within it a worker's ring must not run over.
constexpr absl::Duration kPeriod = absl::Milliseconds(100);

absl::Status Collect(GatewayClient* client, absl::Duration duration, ClusterTrace* trace,
                     std::set<std::string>* missing) {
  // The first answer holds nothing: it turns recording on.
  const absl::Duration end = Clock::Real().Uptime() + duration;
  bool last = false;
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(const v1::TraceResponse response, client->Trace(trace->NextRequest()));
    missing->insert(response.missing().begin(), response.missing().end());
    bool more = false;
    TANDEM_RETURN_IF_ERROR(trace->Add(response, &more));
    if (trace->full() || (last && !more)) return absl::OkStatus();
    const absl::Duration left = end - Clock::Real().Uptime();
    last = left <= absl::ZeroDuration();
    // Once the time is over, what a process has not sent yet is still fetched, but not for ever.
    if (left < -kPeriod * 20) return absl::OkStatus();
    // Nothing tells when there is more.
    if (!more && !last)
      ::poll(nullptr, 0, static_cast<int>(absl::ToInt64Milliseconds(std::min(left, kPeriod))));
  }
}

}  // namespace

int CommandTrace(const ClusterPaths& paths, const TraceOptions& options) {
  absl::StatusOr<GatewayClient> client = ConnectTo(paths, options.gateway);
  if (!client.ok()) return Fail(client.status());
  ClusterTrace trace;
  std::set<std::string> missing;
  const absl::Status collected =
      Collect(&*client, absl::Seconds(options.seconds), &trace, &missing);
  if (!collected.ok()) return Fail(collected);
  const TraceSummary summary = Summarize(trace);
  std::fputs(Describe(trace, summary).c_str(), stdout);
  for (const std::string& worker : missing)
    std::fprintf(stderr, "tandem: worker '%s' did not always answer\n", worker.c_str());
  if (trace.full())
    std::fprintf(stderr, "tandem: stopped early, at %zu events\n", ClusterTrace::kMaxEvents);
  if (options.output.empty()) return 0;
  std::FILE* const file = std::fopen(options.output.c_str(), "we");
  if (file == nullptr)
    return Fail(absl::ErrnoToStatus(errno, absl::StrCat("--output ", options.output)));
  WriteChromeTrace(trace, summary, file);
  const bool written = std::ferror(file) == 0;
  if (std::fclose(file) != 0 || !written)
    return Fail(absl::ErrnoToStatus(errno, absl::StrCat("writing ", options.output)));
  std::printf("%s: open it at https://ui.perfetto.dev\n", options.output.c_str());
  return 0;
}

}  // namespace tandem
