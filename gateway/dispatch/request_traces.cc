#include "gateway/dispatch/request_traces.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "lib/base/enum_names.h"
#include "lib/base/strings.h"
#include "lib/model/kinds.h"

namespace tandem {

RequestTraces::RequestTraces(SpanExporter* exporter, const std::vector<ClusterWorker>& workers)
    : exporter_(exporter) {
  for (const ClusterWorker& worker : workers)
    sources_.push_back({Cat("tandem-", NameOf(worker.role), "-worker"), worker.name});
}

void RequestTraces::Submitted(std::uint64_t id, const GenerationRequest& request) {
  if (exporter_ == nullptr || !exporter_->on() || request.trace_parent.empty()) return;
  const std::optional<TraceContext> parent = TraceContext::Parse(request.trace_parent);
  if (!parent.has_value()) return;
  Traced& traced = traced_[id];
  traced.parent = *parent;
  traced.id = request.id;
  traced.queued_ns = absl::GetCurrentTimeNanos();
  traced.work.resize(sources_.size());
}

void RequestTraces::Sent(std::uint64_t round, const StepPlan& plan) {
  Step& step = StepOf(plan.step_id);
  step.shares.clear();
  if (traced_.empty()) return;
  step.round = round;
  step.step_id = plan.step_id;
  for (const SequenceShare& share : plan.sequences) {
    const auto found = traced_.find(share.request);
    if (found == traced_.end()) continue;
    if (found->second.first_step_ns == 0) found->second.first_step_ns = absl::GetCurrentTimeNanos();
    const bool decode = share.tokens.size() == 1 && share.sample;
    step.shares.push_back({share.request, decode ? kDecode : kPrefill,
                           static_cast<std::int64_t>(share.tokens.size())});
  }
}

void RequestTraces::Answered(std::uint64_t round, std::size_t worker, const StepResult& result) {
  if (traced_.empty() || !result.status.ok()) return;
  const Step& step = StepOf(result.step_id);
  // Of a round that was given up, or of a step before anything was traced.
  if (step.round != round || step.step_id != result.step_id) return;
  for (const Share& share : step.shares) {
    const auto found = traced_.find(share.request);
    if (found == traced_.end()) continue;
    Work& work = found->second.work[worker][share.phase];
    if (work.steps == 0) work.begin_ns = result.begin_unix_ns;
    work.end_ns = result.end_unix_ns;
    ++work.steps;
    work.tokens += share.tokens;
    work.run += result.run;
    work.wait += result.wait;
  }
}

void RequestTraces::Add(const Traced& traced, Span span) {
  span.context = traced.parent.NewSpan();
  span.parent = traced.parent.span_id;
  // Other machines' clocks may say anything, and this one's may be set back.
  span.begin_ns = std::max(span.begin_ns, std::int64_t{0});
  span.end_ns = std::max(span.begin_ns, span.end_ns);
  span.attributes.emplace_back("tandem.request.id", traced.id);
  exporter_->Add(std::move(span));
}

void RequestTraces::Finished(std::uint64_t id, const absl::Status& status) {
  if (traced_.empty()) return;
  const auto found = traced_.find(id);
  if (found == traced_.end()) return;
  const Traced traced = std::move(found->second);
  traced_.erase(found);
  const bool ran = traced.first_step_ns != 0;
  Span queue;
  queue.source = {"tandem-gateway", "gateway"};
  queue.name = "queue";
  queue.begin_ns = traced.queued_ns;
  queue.end_ns = ran ? traced.first_step_ns : absl::GetCurrentTimeNanos();
  if (!ran && !status.ok()) queue.error = absl::StatusCodeToString(status.code());
  Add(traced, std::move(queue));
  for (std::size_t worker = 0; worker < sources_.size(); ++worker) {
    for (const Phase phase : {kPrefill, kDecode}) {
      const Work& work = traced.work[worker][phase];
      if (work.steps == 0) continue;
      Span span;
      span.source = sources_[worker];
      span.name = phase == kPrefill ? "prefill" : "decode";
      span.begin_ns = work.begin_ns;
      span.end_ns = work.end_ns;
      span.attributes = {{"tandem.steps", work.steps},
                         {"tandem.tokens", work.tokens},
                         {"tandem.device_seconds", absl::ToDoubleSeconds(work.run)},
                         {"tandem.wait_seconds", absl::ToDoubleSeconds(work.wait)}};
      Add(traced, std::move(span));
    }
  }
}

}  // namespace tandem
