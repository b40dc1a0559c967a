// What the plan `auto` predicts from: the workers' times, measured before the engine begins, or
// kept from an earlier start.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/dispatch/cluster_impl.h"
#include "gateway/dispatch/cost_file.h"
#include "lib/base/checksum.h"
#include "lib/base/kept_file.h"
#include "lib/base/status_macros.h"
#include "lib/base/version.h"
#include "lib/model/tensors.h"
#include "lib/wire/cost_wire.h"
#include "lib/wire/model_wire.h"

namespace tandem {
namespace {

// For a worker's table; beside it weights are mapped and stages compiled.
constexpr double kMeasureSeconds = 5;
constexpr absl::Duration kMeasureTimeout = absl::Minutes(2);
constexpr double kRepeatSeconds = 0.6;
// For hand-overs of each size, and how many of them are made; beside that the edges are connected.
constexpr double kHandoverSeconds = 0.3;
constexpr double kFewestHandovers = 3;
constexpr double kMostHandovers = 200;
constexpr std::int32_t kMostHandoverRows = 128;
constexpr double kEdgeSeconds = 20;
constexpr absl::Duration kRepeatTimeout = absl::Seconds(30);
constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 20;
// Tokens of the steps that are timed, and of the contexts behind which single tokens are.
constexpr std::int32_t kTimedTokens[] = {8, 32, 64, 128, 512, kPrefillChunkTokens};
constexpr std::int32_t kShortContext = 16;
constexpr std::int32_t kLongContext = 512;
// Tokens of a prompt that are timed behind that context, too.
constexpr std::int32_t kTimedBehind = 128;

// Of the steps that are timed. Where a plan to choose from has a route for prompts, these come in
// longer micro-batches than others (SizePlan).
StepLimits TimedLimits(const ClusterSetup& setup) {
  StepLimits limits = setup.scheduler.limits;
  if (setup.options.step_tokens_given) return limits;
  for (const std::string& name : setup.auto_plans) {
    const absl::StatusOr<SharedPlan> plan =
        MakeClusterPlan(name, setup.model.config, setup.workers(), setup.options.micro_batches);
    if (plan.ok() && (*plan)->prefill_micro_batches > 0)
      limits.max_tokens = std::max(limits.max_tokens, kPrefillChunkTokens);
  }
  return limits;
}

std::string ModelKey(const ClusterSetup& setup) {
  const ModelConfig& config = setup.model.config;
  return absl::StrCat(
      "tandem ", kVersion, "; ", config.num_layers, " layers of ", config.hidden_size, " x ",
      config.ffn_size, ", ", config.num_heads, " / ", config.num_kv_heads, " heads of ",
      config.head_dim, ", window ", config.sliding_window, ", ", config.vocab_size, " tokens; ",
      setup.model.weight_format, "; ", std::string(NameOf(setup.options.activations)), ", ",
      std::string(NameOf(setup.options.kv_type)), ", steps of ", TimedLimits(setup).max_tokens,
      " tokens in contexts of ", setup.scheduler.context_tokens);
}

std::string DeviceKey(const v1::WorkerDescription& worker) {
  return absl::StrCat("; ", worker.name(), " ", worker.device().kind(), " ", worker.device().name(),
                      " (", worker.device().driver(), ")");
}

// Of both workers that there are.
std::string PairKey(const ClusterSetup& setup, const std::vector<v1::WorkerDescription>& workers) {
  std::string key = ModelKey(setup) + DeviceKey(workers[0]) + DeviceKey(workers[1]) + "; edges";
  for (const HandleKind kind : setup.options.edge_kinds)
    absl::StrAppend(&key, " ", std::string(NameOf(kind)));
  return key;
}

KeptFile FileOf(const ClusterSetup& setup, const char* what, const std::string& key) {
  return {setup.options.cache_folder,
          absl::StrFormat("%s-%016x", what, Checksum(std::as_bytes(std::span(key)))),
          kMostFileBytes};
}

// Nothing where there is none that can be used.
template <typename Read>
auto ReadKept(const KeptFile& file, const std::string& key, const Read& read)
    -> std::optional<typename decltype(read(std::string_view(), std::string_view()))::value_type> {
  const absl::StatusOr<std::vector<std::byte>> bytes = file.Load();
  if (bytes.ok() && bytes->empty()) return std::nullopt;
  auto found =
      bytes.ok()
          ? read(std::string_view(reinterpret_cast<const char*>(bytes->data()), bytes->size()),
                 std::string_view(key))
          : bytes.status();
  if (found.ok()) return *std::move(found);
  spdlog::warn("measured anew: {}: {}", file.path(), std::string(found.status().message()));
  return std::nullopt;
}

void Keep(const KeptFile& file, const std::string& text) {
  const absl::Status stored = file.Store(std::as_bytes(std::span(text)));
  if (!stored.ok())
    spdlog::warn("what was measured is not kept: {}", std::string(stored.message()));
}

std::vector<CostPoint> PointsOf(const ClusterSetup& setup) {
  const std::int32_t room = setup.scheduler.context_tokens - 1;
  const std::int32_t most = std::min(room, TimedLimits(setup).max_tokens);
  std::vector<CostPoint> points = {{1, std::min(kShortContext, room)}};
  if (room > kShortContext) points.push_back({1, std::min(kLongContext, room)});
  for (const std::int32_t tokens : kTimedTokens) {
    if (tokens > most) continue;
    points.push_back({tokens, 0});
    if (tokens == kTimedBehind && kLongContext + tokens <= room)
      points.push_back({tokens, kLongContext});
  }
  return points;
}

std::vector<std::string> RegionsOfLayers(std::int32_t first, std::int32_t last) {
  std::vector<std::string> names = {RegionName(WeightPart::kEmbedding, -1)};
  for (std::int32_t layer = first; layer < last; ++layer) {
    names.push_back(RegionName(WeightPart::kAttention, layer));
    names.push_back(RegionName(WeightPart::kFfn, layer));
  }
  return names;
}

// Rows that both workers have had as a step, one and some, as often as takes a moment.
std::vector<v1::HandoverRounds> RoundsOf(const std::vector<WorkerCosts>& alone) {
  const auto of = [](const WorkerCosts& worker) {
    std::map<std::int32_t, double> seconds;
    for (const StageCost& cost : worker.costs) {
      if (cost.kind == CostKind::kFfn && cost.point.tokens <= kMostHandoverRows)
        seconds[cost.point.tokens] = cost.seconds;
    }
    return seconds;
  };
  const std::map<std::int32_t, double> first = of(alone[0]);
  const std::map<std::int32_t, double> second = of(alone[1]);
  std::vector<v1::HandoverRounds> rounds;
  for (const auto& [rows, seconds] : first) {
    const auto other = second.find(rows);
    if (other == second.end()) continue;
    const double round = std::max(1e-6, seconds + other->second);
    v1::HandoverRounds wanted;
    wanted.set_rows(rows);
    wanted.set_rounds(static_cast<std::int32_t>(
        std::clamp(kHandoverSeconds / round, kFewestHandovers, kMostHandovers)));
    // The fewest and the most rows.
    if (rounds.size() == 2) rounds.pop_back();
    rounds.push_back(wanted);
  }
  return rounds;
}

// How many times as long the stages of a layer take as they do alone.
double SlowdownOf(const std::vector<StageCost>& alone, const std::vector<StageCost>& beside) {
  double sum_alone = 0;
  double sum_beside = 0;
  for (const StageCost& cost : beside) {
    if (cost.kind != CostKind::kFfn && cost.kind != CostKind::kLocalAttention) continue;
    for (const StageCost& other : alone) {
      if (other.kind != cost.kind || !(other.point == cost.point)) continue;
      sum_alone += other.seconds;
      sum_beside += cost.seconds;
    }
  }
  return sum_alone > 0 ? std::max(1.0, sum_beside / sum_alone) : 1;
}

}  // namespace

template <typename Answer, typename Response>
void Cluster::Impl::TakeAnswer(const absl::Status& status, const Response& response,
                               const std::shared_ptr<Pending<Answer>>& pending) {
  absl::StatusOr<Answer> found = status.ok() ? FromProto(response) : absl::StatusOr<Answer>(status);
  const std::lock_guard<std::mutex> lock(mutex_);
  pending->answer = std::move(found);
  pending->done = true;
  auto_wake_.notify_all();
}

std::optional<LoaderLink::Loaded> Cluster::Impl::LoadForMeasuring() {
  struct Answer {
    bool done = false;
    absl::StatusOr<LoaderLink::Loaded> loaded = absl::UnavailableError("no answer");
  };
  const auto answer = std::make_shared<Answer>();
  LoaderLink::Handlers handlers;
  handlers.on_progress = [this](std::string text) { ShowTrying(text); };
  handlers.on_done = [this, answer](absl::StatusOr<LoaderLink::Loaded> loaded) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answer->loaded = std::move(loaded);
    answer->done = true;
    auto_wake_.notify_all();
  };
  loader_->Load(RegionsOfLayers(0, setup_.model.config.num_layers), setup_.recovery.load_timeout,
                std::move(handlers));
  std::unique_lock<std::mutex> lock(mutex_);
  auto_wake_.wait(lock, [&] { return stop_ || answer->done; });
  if (stop_ || !answer->done) return std::nullopt;
  if (!answer->loaded.ok() || answer->loaded->fingerprint != setup_.model.fingerprint) {
    // Its own round says so once more, and to everybody.
    spdlog::warn(
        "nothing is measured: loader: {}",
        answer->loaded.ok() ? "another model" : std::string(answer->loaded.status().message()));
    return std::nullopt;
  }
  return *std::move(answer->loaded);
}

WorkerCosts Cluster::Impl::MeasureWorker(std::size_t worker, std::uint64_t generation,
                                         const v1::WorkerDescription& described,
                                         const LoaderLink::Loaded& loaded) {
  WorkerCosts costs{described.name(), described.device().name(), {}, "", false};
  v1::MeasureStagesRequest request;
  request.set_generation(generation);
  *request.mutable_config() = setup_.config;
  request.set_fingerprint(loaded.fingerprint);
  const auto [first, last] = LayersToMeasure(setup_.model.config, setup_.model.weight_bytes);
  const std::vector<std::string> names = RegionsOfLayers(first, last);
  for (const v1::RegionManifest& region : loaded.regions) {
    if (std::find(names.begin(), names.end(), region.name()) != names.end())
      *request.add_regions() = region;
  }
  request.set_region_socket(loaded.region_socket);
  *request.mutable_limits() = ToProto(TimedLimits(setup_));
  request.set_activations(std::string(NameOf(setup_.options.activations)));
  request.set_kv_type(std::string(NameOf(setup_.options.kv_type)));
  request.set_first_layer(first);
  request.set_last_layer(last);
  for (const CostPoint& point : PointsOf(setup_)) *request.add_points() = ToProto(point);
  request.set_seconds(kMeasureSeconds);
  ShowTrying(absl::StrCat("measuring ", costs.worker));
  const auto pending = std::make_shared<Pending<std::vector<StageCost>>>();
  links_[worker]->MeasureStages(
      std::move(request), kMeasureTimeout,
      [this, pending](const absl::Status& status, const v1::StageCosts& response) {
        TakeAnswer<std::vector<StageCost>>(status, response, pending);
      });
  std::unique_lock<std::mutex> lock(mutex_);
  auto_wake_.wait(lock, [&] { return stop_ || pending->done; });
  if (pending->answer.ok() && pending->answer->empty())
    pending->answer = absl::InternalError("it answered without any time");
  if (pending->answer.ok()) {
    costs.costs = *std::move(pending->answer);
  } else {
    costs.error = std::string(pending->answer.status().message());
    if (costs.error.empty()) costs.error = "it cannot measure";
  }
  return costs;
}

PairCosts Cluster::Impl::MeasurePair(std::size_t first, std::size_t second,
                                     std::uint64_t generation,
                                     const std::vector<WorkerCosts>& alone) {
  PairCosts pair;
  pair.first = alone[first].worker;
  pair.second = alone[second].worker;
  // The largest step that both have measured, up to a usual micro-batch.
  CostPoint point;
  for (const StageCost& cost : alone[first].costs) {
    const bool both =
        std::any_of(alone[second].costs.begin(), alone[second].costs.end(),
                    [&](const StageCost& other) { return other.point == cost.point; });
    if (both && cost.point.tokens > point.tokens && cost.point.tokens <= 32) point = cost.point;
  }
  if (point.tokens == 0) return pair;
  ShowTrying(absl::StrCat("measuring ", pair.first, " beside ", pair.second));
  const std::size_t indices[] = {first, second};
  std::shared_ptr<Pending<std::vector<StageCost>>> pending[2];
  for (std::size_t i = 0; i < 2; ++i) {
    pending[i] = std::make_shared<Pending<std::vector<StageCost>>>();
    v1::RepeatStagesRequest request;
    request.set_generation(generation);
    *request.mutable_point() = ToProto(point);
    request.set_seconds(kRepeatSeconds);
    links_[indices[i]]->RepeatStages(
        std::move(request), kRepeatTimeout,
        [this, answer = pending[i]](const absl::Status& status, const v1::StageCosts& response) {
          TakeAnswer<std::vector<StageCost>>(status, response, answer);
        });
  }
  std::unique_lock<std::mutex> lock(mutex_);
  auto_wake_.wait(lock, [&] { return stop_ || (pending[0]->done && pending[1]->done); });
  // The one whose rounds are short was slowed down for all of its time: it says most.
  for (std::size_t i = 0; i < 2; ++i) {
    if (pending[i]->answer.ok())
      pair.slowdown =
          std::max(pair.slowdown, SlowdownOf(alone[indices[i]].costs, *pending[i]->answer));
  }
  return pair;
}

absl::Status Cluster::Impl::MeasureEdges(std::uint64_t generation, const Descriptions& workers,
                                         const std::vector<WorkerCosts>& alone, PairCosts* pair) {
  ShowTrying(absl::StrCat("measuring hand-overs between ", pair->first, " and ", pair->second));
  const std::vector<v1::HandoverRounds> rounds = RoundsOf(alone);
  if (rounds.empty()) return absl::NotFoundError("no step was measured by both");
  const std::vector<ClusterWorker>& ends = setup_.workers();
  Plan to_and_fro;
  to_and_fro.routes.push_back(
      {RouteUse::kAll,
       {{.worker = ends[0].name}, {.worker = ends[1].name}, {.worker = ends[0].name}}});
  const HandoverStage halves[] = {HandoverStage::kFeedForward, HandoverStage::kFeedForward};
  std::string kind;
  TANDEM_ASSIGN_OR_RETURN(const HopCosts hop,
                          MeasureHops(generation, workers, to_and_fro, halves, rounds, &kind));
  HopCosts cut_hop;
  if (ends[0].role != ends[1].role) {
    TANDEM_ASSIGN_OR_RETURN(cut_hop, MeasureCutHops(generation, workers, rounds, &kind));
  }
  pair->hop = hop;
  pair->cut_hop = cut_hop;
  pair->edge_kind = kind;
  return absl::OkStatus();
}

absl::StatusOr<HopCosts> Cluster::Impl::MeasureCutHops(
    std::uint64_t generation, const Descriptions& workers,
    const std::vector<v1::HandoverRounds>& rounds, std::string* kind) {
  const std::vector<ClusterWorker>& ends = setup_.workers();
  // The plan that cuts attention out.
  TANDEM_ASSIGN_OR_RETURN(const Plan hybrid,
                          MakePlan("hybrid", setup_.model.config,
                                   {{ends[0].name, ends[0].role}, {ends[1].name, ends[1].role}}));
  const auto stage_of = [](const ClusterWorker& worker) {
    return worker.role == WorkerRole::kGpu ? HandoverStage::kAttend : HandoverStage::kProducts;
  };
  const HandoverStage cut[] = {stage_of(ends[0]), stage_of(ends[1])};
  return MeasureHops(generation, workers, hybrid, cut, rounds, kind);
}

absl::StatusOr<HopCosts> Cluster::Impl::MeasureHops(std::uint64_t generation,
                                                    const Descriptions& workers, const Plan& plan,
                                                    std::span<const HandoverStage> stages,
                                                    const std::vector<v1::HandoverRounds>& rounds,
                                                    std::string* kind) {
  const EdgeWorker ends[] = {EdgeWorkerOf(0, workers[0]), EdgeWorkerOf(1, workers[1])};
  const EdgeRing ring{2, TimedLimits(setup_).max_tokens, setup_.model.config};
  TANDEM_ASSIGN_OR_RETURN(const std::vector<v1::EdgeSpec> specs,
                          MakeEdgeSpecs(plan, {ends[0], ends[1]}, setup_.options.edge_kinds, ring));
  TANDEM_CHECK(specs.size() == 2);
  std::shared_ptr<Pending<EdgeCosts>> pending[2];
  for (std::size_t i = 0; i < 2; ++i) {
    pending[i] = std::make_shared<Pending<EdgeCosts>>();
    v1::MeasureEdgesRequest request;
    request.set_generation(generation);
    request.set_worker(ends[i].name);
    const std::size_t own = specs[0].from() == ends[i].name ? 0 : 1;
    *request.add_edges() = specs[own];
    *request.add_edges() = specs[1 - own];
    request.mutable_rounds()->Assign(rounds.begin(), rounds.end());
    request.set_seconds(kEdgeSeconds);
    request.set_stage(std::string(NameOf(stages[i])));
    links_[i]->MeasureEdges(
        std::move(request), kMeasureTimeout,
        [this, answer = pending[i]](const absl::Status& status, const v1::EdgeCosts& response) {
          TakeAnswer<EdgeCosts>(status, response, answer);
        });
  }
  {
    std::unique_lock<std::mutex> lock(mutex_);
    auto_wake_.wait(lock, [&] { return stop_ || (pending[0]->done && pending[1]->done); });
    if (stop_) return absl::CancelledError("the gateway is stopping");
  }
  for (std::size_t i = 0; i < 2; ++i) {
    const absl::Status& status = pending[i]->answer.status();
    if (!status.ok()) return Annotate(status, ends[i].name);
  }
  *kind = std::string(NameOf(pending[0]->answer->kind));
  return TakeHandovers(*pending[0]->answer, *pending[1]->answer);
}

void Cluster::Impl::SetModel(std::vector<WorkerCosts> workers, std::vector<PairCosts> pairs) {
  auto model =
      std::make_shared<const StepModel>(setup_.model.config, std::move(workers), std::move(pairs));
  const std::lock_guard<std::mutex> lock(mutex_);
  step_model_ = std::move(model);
}

bool Cluster::Impl::ReadMeasured(const Descriptions& workers) {
  const std::string model_key = ModelKey(setup_);
  std::vector<WorkerCosts> costs;
  std::vector<PairCosts> pairs;
  bool complete = true;
  for (const v1::WorkerDescription& worker : workers) {
    const std::string key = model_key + DeviceKey(worker);
    auto kept = ReadKept(FileOf(setup_, "stages", key), key, ReadCosts);
    WorkerCosts& entry = costs.emplace_back();
    entry = {worker.name(), worker.device().name(), {}, "nothing is kept", true};
    complete = complete && kept.has_value();
    if (!kept.has_value()) continue;
    entry.costs = std::move(kept->costs);
    entry.overhead = kept->overhead;
    entry.error.clear();
  }
  if (workers.size() == 2) {
    const std::string key = PairKey(setup_, workers);
    std::optional<PairCosts> kept = ReadKept(FileOf(setup_, "pair", key), key, ReadPair);
    complete = complete && kept.has_value();
    if (kept.has_value()) {
      kept->first = workers[0].name();
      kept->second = workers[1].name();
      kept->kept = true;
      pairs.push_back(*std::move(kept));
    }
  }
  SetModel(std::move(costs), std::move(pairs));
  return complete;
}

void Cluster::Impl::MeasureWorkers(const Descriptions& workers) {
  const bool complete = ReadMeasured(workers);
  const std::optional<LoaderLink::Loaded> loaded = LoadForMeasuring();
  if (!loaded.has_value()) return;
  std::vector<WorkerCosts> costs = step_model_->workers();
  for (const v1::RegionManifest& region : loaded->regions)
    region_bytes_.emplace_back(region.name(), region.bytes());
  if (complete) return;
  // Workers that have served before take only a later generation.
  std::uint64_t generation = 1;
  for (const v1::WorkerDescription& worker : workers)
    generation = std::max(generation, worker.generation() + 1);
  for (std::size_t i = 0; i < workers.size(); ++i) {
    // A pair is measured while both are ready for it.
    if (workers.size() != 2 && costs[i].error.empty()) continue;
    costs[i] = MeasureWorker(i, generation, workers[i], *loaded);
    if (Stopping()) return;
    if (!costs[i].error.empty()) {
      spdlog::warn("{} is not measured: {}", costs[i].worker, costs[i].error);
      continue;
    }
    MeasureOverhead(i, generation, &costs[i]);
    if (Stopping()) return;
    const std::string key = ModelKey(setup_) + DeviceKey(workers[i]);
    Keep(FileOf(setup_, "stages", key), WriteCosts(key, costs[i]));
  }
  std::vector<PairCosts> pairs;
  if (workers.size() == 2 && costs[0].error.empty() && costs[1].error.empty()) {
    pairs.push_back(MeasurePair(0, 1, generation, costs));
    MeasureMessages(generation, costs, &pairs.front());
    if (Stopping()) return;
    const absl::Status edges = MeasureEdges(generation, workers, costs, &pairs.front());
    if (Stopping()) return;
    const std::string key = PairKey(setup_, workers);
    if (edges.ok()) {
      Keep(FileOf(setup_, "pair", key), WritePair(key, pairs.front()));
    } else {
      spdlog::warn("hand-overs are not measured: {}", std::string(edges.message()));
    }
  }
  SetModel(std::move(costs), std::move(pairs));
}

}  // namespace tandem
