// What the recovery asks for, as calls to the loader and the workers.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/dispatch/cluster_impl.h"
#include "lib/base/status_macros.h"
#include "lib/model/plan.h"
#include "lib/wire/memory_wire.h"
#include "lib/wire/model_wire.h"

namespace tandem {
namespace {

// A worker that leaves the plan has nobody who waits for it.
constexpr absl::Duration kDrainTimeout = absl::Seconds(30);

}  // namespace

void Cluster::Impl::Act(const RecoveryAction& action) {
  switch (action.kind) {
    case RecoveryAction::Kind::kLoad:
      return Load(action);
    case RecoveryAction::Kind::kDescribe:
      return Describe(action);
    case RecoveryAction::Kind::kPrepare:
      return Prepare(action);
    case RecoveryAction::Kind::kConnect:
      return Connect(action);
    case RecoveryAction::Kind::kServe:
      return Serve(action);
    case RecoveryAction::Kind::kAbandon:
      spdlog::warn("cluster not ready: {}", std::string(action.status.message()));
      return Leave(action);
    case RecoveryAction::Kind::kLeave:
      return Leave(action);
    case RecoveryAction::Kind::kChangeEnded:
      return EndChange(action);
    case RecoveryAction::Kind::kGiveUp:
      spdlog::error("running requests end: {}", std::string(action.status.message()));
      return;
  }
}

void Cluster::Impl::Leave(const RecoveryAction& action) {
  for (const auto& link : links_) link->Abandon();
  loader_->Stop();
  metrics_.Ready(false);
  for (const ClusterWorker& worker : setup_.workers()) metrics_.WorkerConnected(worker.name, false);
  metrics_.ClearEdges();
  const ClusterPlan& next = *coordinator_.recovery().plan();
  if (next.members == action.plan->members) return;
  // Those without a part any more give their cache back. What they answer changes nothing.
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (action.plan->members[i] == 0 || next.members[i] != 0) continue;
    links_[i]->Drain(action.generation, kDrainTimeout);
    const std::lock_guard<std::mutex> lock(mutex_);
    known_[i].prepared.Clear();
    known_[i].connected.Clear();
  }
}

void Cluster::Impl::Load(const RecoveryAction& action) {
  LoaderLink::Handlers handlers;
  handlers.on_progress = [this](std::string text) {
    Post([this, text = std::move(text)](absl::Duration) { load_text_ = text; });
  };
  handlers.on_done = [this, round = action.round](absl::StatusOr<LoaderLink::Loaded> loaded) {
    auto shared = std::make_shared<absl::StatusOr<LoaderLink::Loaded>>(std::move(loaded));
    Post([this, round, shared](absl::Duration now) {
      absl::Status status = shared->status();
      if (status.ok() && (*shared)->fingerprint != setup_.model.fingerprint) {
        status = absl::FailedPreconditionError(
            absl::StrCat("it serves another model now (fingerprint ", (*shared)->fingerprint,
                         ", expected ", setup_.model.fingerprint, "): restart the gateway"));
      }
      load_text_ = "loading";
      if (status.ok()) loaded_ = **std::move(shared);
      coordinator_.OnLoaded(round, status, now);
    });
  };
  loader_->Load(action.plan->regions, action.timeout, std::move(handlers));
}

absl::Status Cluster::Impl::CheckDescription(std::size_t worker,
                                             const v1::WorkerDescription& description) const {
  const ClusterWorker& expected = setup_.workers()[worker];
  const std::string_view role = NameOf(expected.role);
  if (description.name() == expected.name && description.role() == role) return absl::OkStatus();
  return absl::FailedPreconditionError(
      Cat("at ", expected.address, ": expected ", role, "-worker '", expected.name, "', found ",
          description.role(), "-worker '", description.name(), "'"));
}

void Cluster::Impl::Describe(const RecoveryAction& action) {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (action.plan->members[i] == 0) continue;
    links_[i]->Describe(action.timeout,
                        [this, i, round = action.round](absl::Status status,
                                                        const v1::WorkerDescription& described) {
                          if (status.ok()) status = CheckDescription(i, described);
                          Post([this, i, round, status, described](absl::Duration now) {
                            if (status.ok() && round == coordinator_.recovery().round()) {
                              OnDescription(i, described);
                              coordinator_.RaiseGeneration(described.generation());
                            }
                            coordinator_.OnReply(round, ClusterPhase::kDescribing, i, status, now);
                          });
                        });
  }
}

absl::Status Cluster::Impl::SizeKvCache(const SharedPlan& plan) {
  if (sized_plan_ == plan) return absl::OkStatus();
  std::vector<KvWorker> workers;
  if (setup_.kv_by_workers) {
    for (std::size_t i = 0; i < setup_.workers().size(); ++i) {
      KvWorker worker = KvLayersOf(plan->plan, setup_.model.config, setup_.workers()[i].name);
      if (worker.global_layers + worker.window_layers == 0) continue;
      std::uint64_t weight_bytes = 0;
      for (const std::string& region : RegionsOf(plan->plan, worker.name)) {
        for (const v1::RegionManifest& manifest : loaded_.regions)
          weight_bytes += manifest.name() == region ? manifest.bytes() : 0;
      }
      worker.memory_bytes = KvMemoryOf(known_[i].description.device(), weight_bytes);
      workers.push_back(std::move(worker));
    }
  }
  TANDEM_ASSIGN_OR_RETURN(const PlanSizes sizes, SizePlan(setup_, *plan, workers));
  const KvPlan& kv = sizes.kv;
  const StepLimits& limits = sizes.limits;
  spdlog::info("KV cache {} MiB in {} + {} blocks; steps of at most {} tokens{}", kv.bytes >> 20,
               kv.global_blocks, kv.window_blocks, limits.max_tokens,
               limits.max_decode_tokens == 0
                   ? ""
                   : absl::StrCat(", ", limits.max_decode_tokens, " where they decode"));
  const std::lock_guard<std::mutex> lock(mutex_);
  coordinator_.Resize({kv.global_blocks, kv.window_blocks, plan->micro_batches,
                       plan->prefill_micro_batches, limits.max_tokens, limits.max_decode_tokens});
  sizes_ = sizes;
  sized_plan_ = plan;
  return absl::OkStatus();
}

void Cluster::Impl::RefreshReports() {
  constexpr absl::Duration kInterval = absl::Milliseconds(500);
  constexpr absl::Duration kPatience = absl::Seconds(5);
  const absl::Duration now = Now();
  if (now < next_refresh_) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!std::exchange(report_wanted_, false) || !coordinator_.recovery().serving()) return;
  }
  next_refresh_ = now + kInterval;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    links_[i]->Ask(kPatience,
                   [this, i](const absl::Status& status, const v1::WorkerDescription& described) {
                     if (!status.ok()) return;
                     Post([this, i, described](absl::Duration) {
                       // No round asks a worker without a part.
                       if (plan().members[i] == 0) return OnDescription(i, described);
                       v1::DeviceDescription& known = *known_[i].description.mutable_device();
                       *known.mutable_facts() = described.device().facts();
                       *known.mutable_parts() = described.device().parts();
                     });
                   });
  }
}

void Cluster::Impl::Prepare(const RecoveryAction& action) {
  const absl::Status sized = SizeKvCache(action.plan);
  if (!sized.ok()) {
    Post([this, round = action.round, head = action.plan->head, sized](absl::Duration now) {
      coordinator_.OnReply(round, ClusterPhase::kPreparing, head, sized, now);
    });
    return;
  }
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (action.plan->members[i] == 0) continue;
    v1::PrepareRequest request;
    request.set_generation(action.generation);
    request.set_worker(setup_.workers()[i].name);
    *request.mutable_plan() = ToProto(action.plan->plan);
    *request.mutable_config() = setup_.config;
    request.set_fingerprint(loaded_.fingerprint);
    const std::vector<std::string> own = RegionsOf(action.plan->plan, setup_.workers()[i].name);
    for (const v1::RegionManifest& region : loaded_.regions) {
      if (std::find(own.begin(), own.end(), region.name()) != own.end())
        *request.add_regions() = region;
    }
    request.set_region_socket(loaded_.region_socket);
    *request.mutable_limits() = ToProto(sizes_->limits);
    request.set_global_blocks(sizes_->kv.global_blocks);
    request.set_window_blocks(sizes_->kv.window_blocks);
    request.set_activations(std::string(NameOf(setup_.options.activations)));
    request.set_kv_type(std::string(NameOf(setup_.options.kv_type)));
    request.set_max_micro_batches(action.plan->most_micro_batches());
    request.set_steps_in_flight(setup_.scheduler.steps_in_flight);
    if (i == action.plan->head) {
      const auto vocab_size = static_cast<std::size_t>(setup_.model.config.vocab_size);
      for (std::string& bytes : TextBytes(setup_.model.vocabulary, vocab_size))
        *request.add_token_bytes() = std::move(bytes);
    }
    links_[i]->Prepare(std::move(request), action.timeout,
                       [this, i, round = action.round](const absl::Status& status,
                                                       const v1::PrepareResponse& response) {
                         Post([this, i, round, status, response](absl::Duration now) {
                           if (status.ok() && round == coordinator_.recovery().round())
                             known_[i].prepared = response;
                           coordinator_.OnReply(round, ClusterPhase::kPreparing, i, status, now);
                         });
                       });
  }
}

EdgeWorker Cluster::Impl::EdgeWorkerOf(std::size_t worker,
                                       const v1::WorkerDescription& described) const {
  return {setup_.workers()[worker].name, setup_.workers()[worker].address, described.fd_socket(),
          described.host(), FromProto(described.memory())};
}

void Cluster::Impl::Connect(const RecoveryAction& action) {
  std::vector<EdgeWorker> workers;
  for (std::size_t i = 0; i < setup_.workers().size(); ++i)
    workers.push_back(EdgeWorkerOf(i, known_[i].description));
  const EdgeRing ring{// One more than micro-batches: a producer then runs ahead of its consumer.
                      std::max(setup_.options.edge_slots, action.plan->most_micro_batches() + 1),
                      sizes_->limits.max_tokens, setup_.model.config};
  absl::StatusOr<std::vector<v1::EdgeSpec>> specs =
      MakeEdgeSpecs(action.plan->plan, workers, setup_.options.edge_kinds, ring);
  if (!specs.ok()) {
    Post([this, round = action.round, head = action.plan->head,
          status = specs.status()](absl::Duration now) {
      coordinator_.OnReply(round, ClusterPhase::kConnecting, head, status, now);
    });
    return;
  }
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (action.plan->members[i] == 0) continue;
    v1::ConnectRequest request;
    request.set_generation(action.generation);
    request.set_timeout_seconds(absl::ToDoubleSeconds(action.timeout));
    for (const v1::EdgeSpec& spec : *specs) {
      if (spec.from() == setup_.workers()[i].name || spec.to() == setup_.workers()[i].name)
        *request.add_edges() = spec;
    }
    links_[i]->Connect(std::move(request), action.timeout,
                       [this, i, round = action.round](const absl::Status& status,
                                                       const v1::ConnectResponse& response) {
                         Post([this, i, round, status, response](absl::Duration now) {
                           if (status.ok() && round == coordinator_.recovery().round())
                             known_[i].connected = response;
                           coordinator_.OnReply(round, ClusterPhase::kConnecting, i, status, now);
                         });
                       });
  }
}

void Cluster::Impl::Serve(const RecoveryAction& action) {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (action.plan->members[i] == 0) continue;
    StepStream::Handlers handlers;
    handlers.on_result = [this, i, round = action.round](const v1::StepResult& result) {
      OnStepResult(round, i, result);
    };
    handlers.on_end = [this, i, round = action.round] {
      Post([this, i, round](absl::Duration now) {
        coordinator_.OnStreamBroken(
            round, i, absl::UnavailableError("the connection to the worker broke"), now);
      });
    };
    metrics_.WorkerConnected(setup_.workers()[i].name, true);
    known_[i].times =
        metrics_.Worker(setup_.workers()[i].name, known_[i].description.device().name());
    links_[i]->OpenSteps(std::move(handlers));
    for (const v1::EdgeDescription& edge : known_[i].connected.edges()) {
      if (edge.from() == links_[i]->name())
        metrics_.Edge(edge.id(), edge.from(), edge.to(), edge.kind());
    }
  }
  if (action.generation > 1)
    spdlog::info("cluster serving again, generation {}", action.generation);
  if (action.generation == 1) spdlog::info("cluster serving");
  metrics_.Ready(true);
}

}  // namespace tandem
