#include "gateway/dispatch/cluster.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/dispatch/cluster_impl.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"
#include "lib/wire/step_wire.h"

namespace tandem {
namespace {

// How soon Start sees `cancelled`.
constexpr absl::Duration kLoaderAttempt = absl::Seconds(1);

absl::StatusOr<v1::Model> WaitForModel(LoaderLink& loader, const ClusterOptions& options) {
  const absl::Duration end = Clock::Real().Uptime() + options.start_timeout;
  while (true) {
    const absl::Duration left = end - Clock::Real().Uptime();
    absl::StatusOr<v1::Model> model =
        loader.GetModel(std::clamp(left, absl::ZeroDuration(), kLoaderAttempt));
    if (model.ok() ||
        !(absl::IsUnavailable(model.status()) || absl::IsDeadlineExceeded(model.status())))
      return model;
    if (options.cancelled && options.cancelled())
      return absl::CancelledError("stopped while waiting for the loader");
    if (Clock::Real().Uptime() >= end) {
      return absl::UnavailableError(absl::StrCat(
          "no answer from the loader at ", options.loader_address, " within ",
          absl::FormatDuration(options.start_timeout), ": ", model.status().message()));
    }
  }
}

DeviceReport ReportOf(const v1::DeviceDescription& device) {
  DeviceReport report;
  for (const v1::DeviceFact& fact : device.facts())
    report.facts.push_back({fact.name(), fact.value()});
  for (const v1::DevicePart& part : device.parts())
    report.parts.push_back({part.name(), part.where(), part.seconds()});
  return report;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Start(
    ClusterOptions options, std::shared_ptr<prometheus::Registry> registry) {
  auto loader = std::make_unique<LoaderLink>(options.loader_address);
  absl::StatusOr<v1::Model> model = WaitForModel(*loader, options);
  if (!model.ok()) return Annotate(model.status(), "loader");
  TANDEM_ASSIGN_OR_RETURN(ClusterSetup setup, MakeClusterSetup(std::move(options), *model));
  spdlog::info("model {} ({}, {} MiB), plan {}, context {} tokens", setup.model.config.name,
               setup.model.weight_format, setup.model.weight_bytes >> 20, setup.plan->name,
               setup.kv.context_tokens);
  return std::unique_ptr<Cluster>(new Cluster(
      std::make_unique<Impl>(std::move(setup), std::move(loader), std::move(registry))));
}

Cluster::Cluster(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Cluster::~Cluster() = default;
EngineLimits Cluster::limits() const { return impl_->limits(); }
absl::Status Cluster::Ready() const { return impl_->Ready(); }
absl::StatusOr<std::uint64_t> Cluster::Submit(GenerationRequest request,
                                              std::shared_ptr<GenerationSink> sink) {
  return impl_->Submit(std::move(request), std::move(sink));
}
void Cluster::Cancel(std::uint64_t handle) { impl_->Cancel(handle); }
absl::StatusOr<std::uint64_t> Cluster::ChangePlan(const std::string& name) {
  return impl_->ChangePlan(name);
}
PlanReport Cluster::Report() const { return impl_->Report(); }
const ServedModel& Cluster::model() const { return impl_->model(); }
ClusterStatus Cluster::Status() const { return impl_->Status(); }
absl::Status Cluster::Trace(const v1::TraceRequest& request, v1::TraceResponse* response) {
  return impl_->trace().Read(request, response);
}

Cluster::Impl::Impl(ClusterSetup setup, std::unique_ptr<LoaderLink> loader,
                    std::shared_ptr<prometheus::Registry> registry)
    : setup_(std::move(setup)),
      metrics_(std::move(registry)),
      trace_(setup_.workers(), setup_.plan->plan.name),
      loader_(std::move(loader)),
      coordinator_(setup_.recovery, setup_.scheduler, setup_.plan),
      request_traces_(setup_.options.spans, setup_.workers()),
      known_(setup_.workers().size()) {
  for (const ClusterWorker& worker : setup_.workers()) {
    links_.push_back(std::make_unique<WorkerLink>(worker.name, worker.address));
  }
  metrics_.Ready(false);
  metrics_.Limits(setup_.scheduler.limits.max_sequences, setup_.scheduler.max_waiting);
  for (const ClusterWorker& worker : setup_.workers()) {
    metrics_.WorkerRestarted(worker.name, 0);
    metrics_.WorkerConnected(worker.name, false);
  }
  if (!setup_.auto_plans.empty()) trying_ = "trying plans";
  engine_ = std::thread([this] { Run(); });
  if (!setup_.auto_plans.empty()) auto_ = std::thread([this] { RunAuto(); });
}

Cluster::Impl::~Impl() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  auto_wake_.notify_all();
  engine_.join();
  if (auto_.joinable()) auto_.join();
  loader_->Stop();
  for (const auto& link : links_) link->Shutdown();
}

absl::Status Cluster::Impl::Ready() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!trying_.empty()) return absl::UnavailableError(trying_);
  if (coordinator_.recovery().serving()) return absl::OkStatus();
  return absl::UnavailableError(Detail());
}

absl::StatusOr<std::uint64_t> Cluster::Impl::Submit(GenerationRequest request,
                                                    std::shared_ptr<GenerationSink> sink) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!trying_.empty())
      return absl::UnavailableError(absl::StrCat("the cluster is still starting: ", trying_));
  }
  return Enqueue(std::move(request), std::move(sink));
}

absl::StatusOr<std::uint64_t> Cluster::Impl::Enqueue(GenerationRequest request,
                                                     std::shared_ptr<GenerationSink> sink) {
  std::uint64_t handle = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stop_) return absl::UnavailableError("the gateway is stopping");
    handle = next_handle_;
    request_traces_.Submitted(handle, request);
    const absl::Status taken = coordinator_.Submit(handle, std::move(request));
    if (!taken.ok()) {
      request_traces_.Finished(handle, taken);
      return taken;
    }
    ++next_handle_;
    sinks_.emplace(handle, std::move(sink));
    woken_ = true;
  }
  wake_.notify_one();
  return handle;
}

void Cluster::Impl::Cancel(std::uint64_t handle) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!coordinator_.Cancel(handle)) return;
    woken_ = true;
  }
  wake_.notify_one();
}

std::string Cluster::Impl::State() const {
  const Recovery& recovery = coordinator_.recovery();
  if (recovery.start_refused()) return "failed";
  if (!trying_.empty()) return "starting";
  if (recovery.serving()) return "ready";
  if (recovery.changing()) return "changing";
  if (!recovery.ever_served()) return "starting";
  return recovery.gave_up() ? "failed" : "recovering";
}

std::string Cluster::Impl::Detail() const {
  const Recovery& recovery = coordinator_.recovery();
  if (recovery.start_refused()) return std::string(recovery.last_failure().message());
  if (!trying_.empty() && (recovery.serving() || !recovery.started())) return trying_;
  std::string text = recovery.changing() ? absl::StrCat("to plan ", plan().name, ": ") : "";
  switch (recovery.phase()) {
    case ClusterPhase::kServing:
      return absl::StrCat("serving, generation ", recovery.generation());
    case ClusterPhase::kWaiting:
      return absl::StrCat(State(), ": ", std::string(recovery.last_failure().message()));
    case ClusterPhase::kLoading:
      text += load_text_;
      break;
    case ClusterPhase::kDescribing:
      text += "waiting for " + recovery.Pending();
      break;
    case ClusterPhase::kPreparing:
      text += recovery.Pending() + " mapping weights";
      break;
    case ClusterPhase::kConnecting:
      text += recovery.Pending() + " compiling stages";
      break;
  }
  if (!recovery.last_failure().ok())
    absl::StrAppend(&text, " (after: ", std::string(recovery.last_failure().message()), ")");
  return text;
}

ClusterStatus Cluster::Impl::Status() const {
  ClusterStatus status;
  status.model = setup_.model.config.name;
  status.encoder = setup_.scheduler.encoder;
  status.weight_format = setup_.model.weight_format;
  const absl::Duration now = Now();
  const std::lock_guard<std::mutex> lock(mutex_);
  status.plan = plan().plan.name;
  status.plan_change = change_;
  status.state = State();
  status.detail = Detail();
  const bool serving = coordinator_.recovery().serving();
  report_wanted_ = true;
  wake_.notify_one();
  for (std::size_t i = 0; i < setup_.workers().size(); ++i) {
    const v1::WorkerDescription& description = known_[i].description;
    WorkerStatus worker;
    worker.name = setup_.workers()[i].name;
    worker.role = setup_.workers()[i].role;
    worker.pid = description.pid();
    worker.device_kind = description.device().kind();
    worker.device_name = description.device().name();
    worker.driver = description.device().driver();
    worker.device = ReportOf(description.device());
    worker.in_plan = plan().members[i] != 0;
    worker.connected = serving && worker.in_plan;
    worker.address = setup_.workers()[i].address;
    for (const auto& w : known_[i].prepared.weights())
      worker.weight_imports.push_back(w.region() + ": " + w.import_kind());
    worker.metrics = description.metrics();
    worker.restarts = known_[i].restarts;
    // A step counts when it ends, be it longer than the window.
    worker.busy = worker.connected ? std::min(1.0, known_[i].busy.PerSecond(now) * 1e-9) : 0;
    if (worker.connected) {
      for (const auto& stage : known_[i].connected.stages())
        status.stages.push_back({stage.name(), worker.name, worker.device_name});
      for (const auto& edge : known_[i].connected.edges()) {
        if (edge.from() == worker.name)
          status.edges.push_back({edge.id(), edge.from(), edge.to(), edge.kind()});
      }
    }
    status.workers.push_back(std::move(worker));
  }
  status.decode_tokens_per_second = decode_rate_.PerSecond(now);
  status.prefill_tokens_per_second = prefill_rate_.PerSecond(now);
  status.running = coordinator_.scheduler().running();
  status.waiting = coordinator_.scheduler().waiting();
  status.requests_total = trying_.empty() ? next_handle_ - first_handle_ : 0;
  status.tokens_total = tokens_total_;
  status.recoveries = coordinator_.recovery().recoveries();
  status.kv = KvUse();
  status.running_limit = setup_.scheduler.limits.max_sequences;
  status.waiting_limit = setup_.scheduler.max_waiting;
  status.loader_metrics = setup_.model.loader_metrics;
  return status;
}

PlanReport Cluster::Impl::Report() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  PlanReport report = report_;
  if (step_model_ != nullptr) {
    report.workers = step_model_->workers();
    report.pairs = step_model_->pairs();
  }
  report.steps = step_record_.Compare(step_model_.get(), plan(), setup_.options);
  return report;
}

std::vector<KvStatus> Cluster::Impl::KvUse() const {
  const auto use = [](const char* group, const BlockPool& pool) {
    return KvStatus{group, pool.size(), pool.size() - pool.unreserved(), pool.taken()};
  };
  return {use("global", coordinator_.scheduler().global_pool()),
          use("window", coordinator_.scheduler().window_pool())};
}

// What the worker says of itself; another process under its name is a restart.
void Cluster::Impl::OnDescription(std::size_t worker, const v1::WorkerDescription& description) {
  Known& known = known_[worker];
  const std::int64_t before = known.description.pid();
  if (before != 0 && before != description.pid()) {
    ++known.restarts;
    metrics_.WorkerRestarted(setup_.workers()[worker].name, 1);
  }
  known.description = description;
}

absl::Duration Cluster::Impl::Now() { return Clock::Real().Uptime(); }

void Cluster::Impl::Post(Message message) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    inbox_.push_back(std::move(message));
  }
  wake_.notify_one();
}

void Cluster::Impl::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  // Plans are compared first: the thread of `auto` starts it.
  if (setup_.auto_plans.empty()) coordinator_.Start(Now());
  while (!stop_) {
    const std::int64_t begun_ns = MonotonicNanoseconds();
    coordinator_.Take(Now(), &effects_);
    for (const StepPlan& plan : effects_.steps()) {
      request_traces_.Sent(effects_.round, plan);
      trace_.own().Record({plan.step_id, begun_ns, MonotonicNanoseconds(), TraceOp::kSchedule});
    }
    Collect();
    const bool state_changed = last_state_ != State();
    if (state_changed) last_state_ = State();
    if (!trying_.empty()) auto_wake_.notify_all();
    lock.unlock();
    if (state_changed && setup_.options.on_state_change) setup_.options.on_state_change();
    for (const RecoveryAction& action : effects_.actions) Act(action);
    for (StepPlan& plan : effects_.steps()) SendStep(&plan);
    // While the steps run.
    Deliver();
    RefreshReports();
    lock.lock();
    WaitForWork(lock);
    TakeMessages();
    coordinator_.OnTime(Now());
  }
  lock.unlock();
  // With what the thread of `auto` has asked: it need not wait for answers.
  for (const auto& link : links_) link->Shutdown();
  FailRemaining();
}

void Cluster::Impl::WaitForWork(std::unique_lock<std::mutex>& lock) {
  const auto ready = [this] {
    return stop_ || woken_ || !inbox_.empty() || !replies_.empty() ||
           (report_wanted_ && Now() >= next_refresh_);
  };
  const std::optional<absl::Duration> deadline = coordinator_.next_deadline();
  if (deadline.has_value()) {
    wake_.wait_for(
        lock, absl::ToChronoMicroseconds(*deadline - Now()) + std::chrono::microseconds(1), ready);
  } else {
    wake_.wait(lock, ready);
  }
  woken_ = false;
}

// A worker's answers come before the news that its stream has broken: replies first.
void Cluster::Impl::TakeMessages() {
  std::swap(replies_, taken_replies_);
  for (std::unique_ptr<StepReply>& reply : taken_replies_) {
    known_[reply->worker].times.Add(reply->result.run, reply->result.wait);
    known_[reply->worker].busy.Add(absl::ToInt64Nanoseconds(reply->result.run), Now());
    const std::uint64_t step_id = reply->result.step_id;
    request_traces_.Answered(reply->round, reply->worker, reply->result);
    coordinator_.OnStepReply(reply.get(), Now());
    trace_.own().Record({step_id, reply->arrived_ns, MonotonicNanoseconds(), TraceOp::kResult,
                         static_cast<std::int16_t>(reply->worker)});
    free_replies_.push_back(std::move(reply));
  }
  taken_replies_.clear();
  std::swap(inbox_, messages_);
  for (const Message& message : messages_) message(Now());
  messages_.clear();
}

void Cluster::Impl::Collect() {
  const absl::Duration now = Now();
  for (const Coordinator::StepDone& step : effects_.steps_done) {
    metrics_.Step(step.seconds, step.decode_tokens, step.prefill_tokens, step.sequences);
    step_record_.Add(coordinator_.recovery().generation(), step);
    decode_rate_.Add(step.decode_tokens, now);
    prefill_rate_.Add(step.prefill_tokens, now);
  }
  metrics_.Replayed(effects_.replayed);
  const std::uint64_t recoveries = coordinator_.recovery().recoveries();
  metrics_.Recoveries(recoveries - std::exchange(shown_recoveries_, recoveries));
  ShowScheduler();
  for (const RequestEvent& event : effects_.events) {
    const auto it = sinks_.find(event.request);
    TANDEM_CHECK(it != sinks_.end());
    event_sinks_.push_back(it->second);
    if (event.kind == RequestEvent::Kind::kToken) ++tokens_total_;
    if (event.kind != RequestEvent::Kind::kFinish) continue;
    request_traces_.Finished(event.request, event.status);
    sinks_.erase(it);
  }
}

void Cluster::Impl::ShowScheduler() {
  const Scheduler& scheduler = coordinator_.scheduler();
  metrics_.Requests(scheduler.running(), scheduler.waiting());
  const auto show = [this](ClusterMetrics::KvGroup group, const BlockPool& pool) {
    metrics_.Kv(group, pool.size(), pool.size() - pool.unreserved(), pool.taken());
  };
  show(ClusterMetrics::KvGroup::kGlobal, scheduler.global_pool());
  show(ClusterMetrics::KvGroup::kWindow, scheduler.window_pool());
}

void Cluster::Impl::Deliver() {
  for (std::size_t i = 0; i < event_sinks_.size(); ++i) {
    GenerationSink& sink = *event_sinks_[i];
    RequestEvent& event = effects_.events[i];
    switch (event.kind) {
      case RequestEvent::Kind::kPromptScores:
        sink.OnPromptScores(std::move(event.scores));
        break;
      case RequestEvent::Kind::kPooled:
        sink.OnPooled(std::move(event.pooled));
        break;
      case RequestEvent::Kind::kToken:
        sink.OnToken(event.token);
        break;
      case RequestEvent::Kind::kFinish:
        sink.OnFinish(event.reason, event.status);
        break;
    }
  }
  event_sinks_.clear();
}

void Cluster::Impl::FailRemaining() {
  std::unordered_map<std::uint64_t, std::shared_ptr<GenerationSink>> sinks;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    sinks = std::exchange(sinks_, {});
  }
  for (const auto& [handle, sink] : sinks)
    sink->OnFinish(FinishReason::kError, absl::UnavailableError("the gateway is stopping"));
}

void Cluster::Impl::SendStep(StepPlan* plan) {
  const std::int64_t begun_ns = MonotonicNanoseconds();
  plan->timeout = setup_.options.step_timeout;
  v1::StepRequest request;
  *request.mutable_step() = ToProto(*plan);
  // The worker that samples is one of them in any case: it gets the message itself.
  const SharedPlan& plan_now = coordinator_.recovery().plan();
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (plan_now->members[i] != 0 && i != plan_now->head) links_[i]->Send(request);
  }
  links_[plan_now->head]->Send(std::move(request));
  trace_.own().Record({plan->step_id, begun_ns, MonotonicNanoseconds(), TraceOp::kSend});
}

// On one of gRPC's threads: the message is read there, the engine thread gets plain data.
void Cluster::Impl::OnStepResult(std::uint64_t round, std::size_t worker,
                                 const v1::StepResult& result) {
  std::unique_ptr<StepReply> reply;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!free_replies_.empty()) {
      reply = std::move(free_replies_.back());
      free_replies_.pop_back();
    }
  }
  if (reply == nullptr) reply = std::make_unique<StepReply>();
  reply->arrived_ns = MonotonicNanoseconds();
  reply->round = round;
  reply->worker = worker;
  const absl::Status parsed = FromProto(result, setup_.model.config.vocab_size, &reply->result);
  reply->status = parsed.ok() ? reply->result.status : absl::InternalError(parsed.message());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    replies_.push_back(std::move(reply));
  }
  wake_.notify_one();
}

}  // namespace tandem
