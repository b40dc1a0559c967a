#include "gateway/dispatch/step_stopwatch.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <numeric>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"
#include "lib/step/step_plan.h"
#include "lib/wire/step_wire.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

// The first one and some that count.
constexpr std::size_t kFewestSteps = 3;
constexpr absl::Duration kStepTimeout = absl::Seconds(20);

}  // namespace

struct StepStopwatch::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  // Of each stream: answers that were not yet waited for.
  std::vector<std::uint64_t> answers;
  absl::Status status;
  std::int32_t vocab_size = 0;

  void Take(std::size_t stream, const v1::StepResult& message) {
    // As the engine does it: read on gRPC's thread, taken by another one.
    StepResult result;
    const absl::Status parsed = FromProto(message, vocab_size, &result);
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (status.ok()) status = parsed.ok() ? result.status : parsed;
      ++answers[stream];
    }
    changed.notify_one();
  }
  void End() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (status.ok()) status = absl::UnavailableError("the connection to the worker broke");
    }
    changed.notify_one();
  }
};

StepStopwatch::StepStopwatch(const std::vector<WorkerLink*>& links, std::uint64_t generation,
                             std::int32_t vocab_size)
    : generation_(generation), shared_(std::make_shared<Shared>()) {
  shared_->answers.resize(links.size());
  shared_->vocab_size = vocab_size;
  for (std::size_t i = 0; i < links.size(); ++i) {
    StepStream::Handlers handlers;
    handlers.on_result = [shared = shared_, i](const v1::StepResult& result) {
      shared->Take(i, result);
    };
    handlers.on_end = [shared = shared_] { shared->End(); };
    streams_.push_back(links[i]->MeasureSteps(std::move(handlers)));
  }
}

StepStopwatch::~StepStopwatch() {
  for (const std::shared_ptr<StepStream>& stream : streams_) stream->Close();
}

void StepStopwatch::Send(const Wanted& wanted) {
  StepPlan plan;
  plan.step_id = ++step_id_;
  plan.generation = generation_;
  plan.timeout = kStepTimeout;
  v1::StepRequest empty;
  *empty.mutable_step() = ToProto(plan);
  plan.route = wanted.few ? 1 : 0;
  for (std::size_t i = 0; i < wanted.shares; ++i) {
    SequenceShare& share = plan.sequences.emplace_back();
    share.first_position = wanted.point.context;
    share.tokens.assign(static_cast<std::size_t>(wanted.point.tokens), 0);
    share.sample = true;
  }
  v1::StepRequest request;
  *request.mutable_step() = ToProto(plan);
  for (std::size_t i = 1; wanted.to_all && i < streams_.size(); ++i) streams_[i]->Send(empty);
  streams_[0]->Send(std::move(request));
}

absl::StatusOr<absl::Duration> StepStopwatch::WaitForStep(bool to_all) {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  const std::span<std::uint64_t> answers =
      std::span(shared_->answers).first(to_all ? shared_->answers.size() : 1);
  const auto all = [&] {
    return std::all_of(answers.begin(), answers.end(), [](std::uint64_t n) { return n > 0; });
  };
  const bool came = shared_->changed.wait_for(lock, absl::ToChronoMilliseconds(kStepTimeout),
                                              [&] { return !shared_->status.ok() || all(); });
  TANDEM_RETURN_IF_ERROR(shared_->status);
  if (!came) {
    return absl::DeadlineExceededError(
        absl::StrCat("a step took more than ", absl::FormatDuration(kStepTimeout)));
  }
  for (std::uint64_t& answer : answers) --answer;
  return Clock::Real().Uptime();
}

absl::Status StepStopwatch::Run(const Wanted& wanted, std::vector<double>* seconds) {
  std::deque<absl::Duration> sent;
  std::size_t done = 0;
  const absl::Duration begun = Clock::Real().Uptime();
  absl::Duration last = begun;
  const auto over = [&] {
    return done + sent.size() >= kFewestSteps && last - begun > wanted.duration;
  };
  do {
    while (!over() && sent.size() < static_cast<std::size_t>(wanted.in_flight)) {
      sent.push_back(Clock::Real().Uptime());
      Send(wanted);
    }
    TANDEM_ASSIGN_OR_RETURN(const absl::Duration now, WaitForStep(wanted.to_all));
    if (done++ > 0) seconds->push_back(absl::ToDoubleSeconds(now - std::max(sent.front(), last)));
    sent.pop_front();
    last = now;
  } while (!over() || !sent.empty());
  return absl::OkStatus();
}

double MiddleMean(std::vector<double> seconds) {
  if (seconds.empty()) return 0;
  std::sort(seconds.begin(), seconds.end());
  const std::size_t outer = seconds.size() / 4;
  const auto middle = std::span(seconds).subspan(outer, seconds.size() - 2 * outer);
  return std::accumulate(middle.begin(), middle.end(), 0.0) / static_cast<double>(middle.size());
}

StepOverhead TakeOverhead(const OverheadSteps& steps) {
  StepOverhead overhead;
  if (steps.following.empty() || steps.lone.empty() || steps.many.empty() || steps.shares < 2)
    return overhead;
  const auto shares = static_cast<double>(steps.shares);
  const double lone = MiddleMean(steps.lone);
  // One step of many shares and one of a single share, both by themselves, have the same of what is
  // no stage.
  const double stages = std::clamp((MiddleMean(steps.many) - lone) / (shares - 1), 0.0, lone);
  overhead.lone_seconds = lone - stages;
  overhead.following_seconds = std::max(0.0, MiddleMean(steps.following) - stages);
  return overhead;
}

}  // namespace tandem
