#include "lib/worker/worker_engine.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/version.h"
#include "lib/wire/cost_wire.h"
#include "lib/wire/memory_wire.h"
#include "lib/wire/trace_wire.h"
#include "lib/worker/describe.h"
#include "lib/worker/measure_requests.h"
#include "lib/worker/measured_steps.h"
#include "lib/worker/plan_part.h"
#include "tandem/v1/trace.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

WorkerEngine::WorkerEngine(Options options, std::unique_ptr<Device> device)
    : options_(std::move(options)),
      device_(std::move(device)),
      host_(HostIdentity(options_.fd_socket)),
      prepared_(std::make_unique<v1::WorkerDescription>()) {}

absl::StatusOr<std::unique_ptr<WorkerEngine>> WorkerEngine::Create(Options options,
                                                                   std::unique_ptr<Device> device) {
  std::unique_ptr<WorkerEngine> engine(new WorkerEngine(std::move(options), std::move(device)));
  if (!engine->options_.fd_socket.empty()) {
    TANDEM_ASSIGN_OR_RETURN(engine->listener_,
                            EdgeListener::Start(engine->options_.fd_socket,
                                                [e = engine.get()](const std::string& model) {
                                                  return e->weights_.Held(model);
                                                }));
  }
  const absl::Status probed = engine->device_->Probe();
  if (!probed.ok())
    return Annotate(probed,
                    absl::StrCat("device '", engine->device_->info().name, "': probing it"));
  StepLoop::Hooks hooks;
  hooks.on_device_lost = engine->options_.on_device_lost;
  hooks.on_idle = [e = engine.get()] { e->Probe(); };
  hooks.idle_interval = engine->options_.probe_interval;
  engine->steps_ = std::make_unique<StepLoop>(std::move(hooks));
  engine->SetHealthy(true);
  return engine;
}

WorkerEngine::~WorkerEngine() {
  Supersede(~std::uint64_t{0});
  {
    std::lock_guard control(control_mutex_);
    if (steps_ != nullptr) TearDown("the worker stops");
  }
  steps_.reset();
}

absl::Status WorkerEngine::Checked(absl::Status status) {
  if (absl::IsUnavailable(status)) options_.on_device_lost(status);
  return status;
}

void WorkerEngine::Probe() {
  // While a Prepare or Connect uses the device its own outcome will tell.
  std::unique_lock control(control_mutex_, std::try_to_lock);
  if (!control.owns_lock()) return;
  const absl::Status probed = device_->Probe();
  if (!probed.ok()) spdlog::error("device '{}': {}", device_->info().name, probed.ToString());
  SetHealthy(probed.ok());
  Checked(probed).IgnoreError();
}

void WorkerEngine::Describe(v1::WorkerDescription* description) {
  {
    std::lock_guard state(state_mutex_);
    *description = *prepared_;
    description->set_generation(generation_number_);
    description->set_metrics(metrics_address_);
  }
  description->set_name(options_.name);
  description->set_role(std::string(NameOf(options_.role)));
  description->set_pid(::getpid());
  description->set_version(kVersion);
  *description->mutable_device() = DescribeDevice(*device_);
  description->set_fd_socket(options_.fd_socket);
  *description->mutable_memory() = ToProto(device_->memory());
  description->set_host(host_);
  description->set_healthy(healthy_.load());
  description->set_device_losses(options_.device_losses);
  steps_->Describe(description);
}

void WorkerEngine::SetMetricsAddress(std::string address) {
  std::lock_guard state(state_mutex_);
  metrics_address_ = std::move(address);
}

void WorkerEngine::SetHealthy(bool healthy) {
  healthy_.store(healthy);
  options_.on_health(healthy);
}

void WorkerEngine::Trace(std::uint64_t next, v1::ProcessTrace* trace) {
  ReadTrace(trace_, next, trace);
  trace->set_process(options_.name);
  v1::WorkerDescription description;
  steps_->Describe(&description);
  for (const v1::StageDescription& stage : description.stages()) trace->add_stages(stage.name());
  for (const v1::EdgeDescription& edge : description.edges()) trace->add_edges(edge.id());
}

absl::Status WorkerEngine::Announce(const v1::PrepareRequest& request) {
  TANDEM_RETURN_IF_ERROR(PlanPart::Parse(request).status());
  Supersede(request.generation());
  return absl::OkStatus();
}

absl::Status WorkerEngine::Announce(const v1::MeasureStagesRequest& request) {
  TANDEM_RETURN_IF_ERROR(ParseStageTimerSpec(request).status());
  Supersede(request.generation());
  return absl::OkStatus();
}

void WorkerEngine::Supersede(std::uint64_t generation) {
  std::uint64_t current = 0;
  {
    std::lock_guard state(state_mutex_);
    current = generation_number_;
    if (generation <= current) return;
    newest_ = std::max(newest_, generation);
    if (connector_ != nullptr) connector_->Cancel();
  }
  if (steps_ != nullptr) steps_->Abort(current, "a newer generation is being prepared");
}

void WorkerEngine::TearDown(const std::string& reason) {
  steps_->Remove(reason);  // the stages go before the edges they are bound to
  if (part_ != nullptr) part_->Close();
  part_.reset();
  timer_.reset();
  measured_.reset();
  std::lock_guard state(state_mutex_);
  prepared_->Clear();
}

absl::Status WorkerEngine::TakeGeneration(std::uint64_t generation) {
  {
    std::lock_guard state(state_mutex_);
    if (generation <= generation_number_) {
      return absl::FailedPreconditionError(absl::StrCat(
          "generation: expected more than ", generation_number_, ", found ", generation));
    }
    generation_number_ = generation;
  }
  TearDown(absl::StrCat("generation ", generation, " replaces this one"));
  if (listener_ != nullptr) listener_->DropBefore(generation);
  inbox_.DropBefore(generation);
  return absl::OkStatus();
}

absl::Status WorkerEngine::Prepare(const v1::PrepareRequest& request,
                                   v1::PrepareResponse* response) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<PlanPart> part, PlanPart::Parse(request));
  Supersede(request.generation());
  std::lock_guard control(control_mutex_);
  TANDEM_RETURN_IF_ERROR(TakeGeneration(request.generation()));
  TANDEM_RETURN_IF_ERROR(Checked(part->Allocate(request, *device_, weights_)));

  TANDEM_RETURN_IF_ERROR(TakeVocabulary(request, *part));

  auto described = std::make_unique<v1::WorkerDescription>();
  described->set_plan(part->plan.name);
  for (const auto& weights : weights_.all()) {
    v1::WeightsDescription* entry = described->add_weights();
    entry->set_region(weights->manifest().name);
    entry->set_import_kind(std::string(weights->import_kind()));
    entry->set_bytes(weights->manifest().bytes);
  }
  described->set_kv_cache_bytes(part->kv_cache == nullptr ? 0 : part->kv_cache->bytes());
  *response->mutable_weights() = described->weights();
  response->set_kv_cache_bytes(described->kv_cache_bytes());
  spdlog::info("generation {}: plan {}, {} stages, {} regions, {} bytes of KV cache",
               request.generation(), part->plan.name, part->layout.stages.size(),
               described->weights_size(), described->kv_cache_bytes());
  part_ = std::move(part);
  std::lock_guard state(state_mutex_);
  prepared_ = std::move(described);
  return absl::OkStatus();
}

absl::Status WorkerEngine::TakeVocabulary(const v1::PrepareRequest& request, PlanPart& part) {
  if (request.token_bytes().empty() || !part.layout.has_head) return absl::OkStatus();
  if (request.token_bytes_size() != part.bounds.config.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("token_bytes: expected ",
                                                   part.bounds.config.vocab_size, ", found ",
                                                   request.token_bytes_size()));
  }
  // Of the same model it is the same: what grammars were compiled to is kept.
  if (masks_ == nullptr || masks_model_ != request.fingerprint()) {
    const std::vector<std::string> tokens(request.token_bytes().begin(),
                                          request.token_bytes().end());
    masks_ = std::make_shared<MaskCache>(std::make_shared<TokenTrie>(tokens));
    masks_model_ = request.fingerprint();
  }
  part.masks = masks_;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::unique_ptr<Edge>>> WorkerEngine::ConnectEdges(
    std::vector<EdgeEndSpec> specs, std::uint64_t generation, Deadline deadline) {
  EdgeConnector connector(*device_, listener_.get(), inbox_, generation);
  {
    std::lock_guard state(state_mutex_);
    if (newest_ > generation) {
      return absl::CancelledError(
          absl::StrCat("generation ", generation, ": ", newest_, " is being prepared already"));
    }
    connector_ = &connector;
  }
  absl::StatusOr<std::vector<std::unique_ptr<Edge>>> edges =
      connector.Connect(std::move(specs), deadline);
  std::lock_guard state(state_mutex_);
  connector_ = nullptr;
  return edges;
}

absl::Status WorkerEngine::Connect(const v1::ConnectRequest& request,
                                   v1::ConnectResponse* response) {
  std::lock_guard control(control_mutex_);
  if (part_ == nullptr || part_->number != request.generation()) {
    return absl::FailedPreconditionError(absl::StrCat("generation: expected the prepared one, ",
                                                      part_ == nullptr ? 0 : part_->number,
                                                      ", found ", request.generation()));
  }
  if (part_->connected)
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", request.generation(), " is connected already"));
  TANDEM_ASSIGN_OR_RETURN(std::vector<EdgeEndSpec> specs, part_->ParseEdges(request));
  // UNAVAILABLE here speaks of the other worker, not of the device.
  TANDEM_ASSIGN_OR_RETURN(part_->edges,
                          ConnectEdges(std::move(specs), request.generation(),
                                       Deadline::After(absl::Seconds(request.timeout_seconds()))));
  TANDEM_ASSIGN_OR_RETURN(part_->watcher, EdgeWatcher::Start(part_->edges));
  absl::StatusOr<std::unique_ptr<StepRunner>> runner = part_->Compile(*device_, weights_, &trace_);
  if (!runner.ok()) {
    part_->Close();
    return Checked(runner.status());
  }
  v1::WorkerDescription described;
  (*runner)->Describe(&described);
  *response->mutable_edges() = described.edges();
  *response->mutable_stages() = described.stages();
  part_->connected = true;
  steps_->Install(*std::move(runner));
  return absl::OkStatus();
}

bool WorkerEngine::Superseded(std::uint64_t generation) {
  std::lock_guard state(state_mutex_);
  return newest_ > generation;
}

absl::Status WorkerEngine::MeasureStages(const v1::MeasureStagesRequest& request,
                                         v1::StageCosts* response) {
  TANDEM_ASSIGN_OR_RETURN(StageTimerSpec spec, ParseStageTimerSpec(request));
  const std::uint64_t generation = request.generation();
  Supersede(generation);
  std::lock_guard control(control_mutex_);
  TANDEM_RETURN_IF_ERROR(TakeGeneration(generation));
  TANDEM_RETURN_IF_ERROR(
      Checked(LoadWeights(request.regions(), request.region_socket(), request.fingerprint(),
                          spec.config, RegionsOf(spec), *device_, weights_)));
  absl::StatusOr<std::unique_ptr<StageTimer>> timer =
      StageTimer::Create(*device_, weights_.all(), std::move(spec));
  if (!timer.ok()) return Checked(timer.status());
  timer_ = *std::move(timer);
  measured_ = timer_->spec();
  const absl::StatusOr<std::vector<StageCost>> costs =
      timer_->MeasureAll(absl::Seconds(request.seconds()), [&] { return Superseded(generation); });
  if (!costs.ok()) return Checked(costs.status());
  *response = ToProto(*costs);
  steps_->Install(std::make_unique<MeasuredSteps>(timer_, generation));
  return absl::OkStatus();
}

absl::Status WorkerEngine::RepeatStages(const v1::RepeatStagesRequest& request,
                                        v1::StageCosts* response) {
  const std::uint64_t generation = request.generation();
  TANDEM_ASSIGN_OR_RETURN(const CostPoint point, FromProto(request.point()));
  TANDEM_ASSIGN_OR_RETURN(const absl::Duration duration,
                          ParseSeconds(request.seconds(), kLongestRepeatSeconds));
  std::lock_guard control(control_mutex_);
  if (timer_ == nullptr || generation != generation_number_) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation: expected one that measures, found ", generation));
  }
  const absl::StatusOr<std::vector<StageCost>> costs =
      timer_->Repeat(point, duration, [&] { return Superseded(generation); });
  if (!costs.ok()) return Checked(costs.status());
  *response = ToProto(*costs);
  return absl::OkStatus();
}

absl::Status WorkerEngine::MeasureEdges(const v1::MeasureEdgesRequest& request,
                                        v1::EdgeCosts* response) {
  const std::uint64_t generation = request.generation();
  std::lock_guard control(control_mutex_);
  if (!measured_.has_value() || generation != generation_number_) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation: expected one that measures, found ", generation));
  }
  TANDEM_ASSIGN_OR_RETURN(MeasuredEdges measured, ParseMeasuredEdges(request, *measured_));
  // A device need not hold the stages of two programs.
  steps_->Remove("hand-overs are timed");
  timer_.reset();
  const Deadline deadline = Deadline::After(absl::Seconds(request.seconds()));
  const std::string out_id = measured.out.id;
  TANDEM_ASSIGN_OR_RETURN(
      const std::vector<std::unique_ptr<Edge>> edges,
      ConnectEdges({std::move(measured.out), std::move(measured.in)}, generation, deadline));
  const bool in_order = edges[0]->spec.id == out_id;
  Edge& out = *edges[in_order ? 0 : 1];
  Edge& in = *edges[in_order ? 1 : 0];
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<EdgeWatcher> watcher, EdgeWatcher::Start(edges));
  absl::StatusOr<std::vector<HandoverCost>> costs =
      TimeHandovers(*device_, *measured_, measured.stage, weights_.all(), out, in, measured.rounds,
                    deadline, [&] { return Superseded(generation); });
  if (!costs.ok()) return Checked(costs.status());
  *response = ToProto(EdgeCosts{out.kind, *std::move(costs)});
  return absl::OkStatus();
}

void WorkerEngine::Drain(std::uint64_t generation) {
  std::lock_guard control(control_mutex_);
  if (generation != 0 && part_ != nullptr && part_->number > generation) return;
  steps_->Drain();
  TearDown("the worker drains");
}

}  // namespace tandem
