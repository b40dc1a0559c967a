#include "lib/model/plan.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/attention_rows.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

constexpr std::string_view kLayersColon = "layers:";

absl::StatusOr<std::string> FirstOfRole(std::string_view plan, WorkerRole role,
                                        const std::vector<PlanWorker>& workers) {
  for (const PlanWorker& worker : workers) {
    if (worker.role == role) return worker.name;
  }
  return absl::InvalidArgumentError(Cat("plan '", plan, "': expected a worker of role '",
                                        NameOf(role), "', found none among ", workers.size(),
                                        " workers"));
}

// The layers of each worker, in order: what "layers:a,b" says, or an even share with the larger
// ones first.
absl::StatusOr<std::vector<std::int32_t>> LayerCounts(std::string_view plan, std::int32_t layers,
                                                      std::size_t workers) {
  std::vector<std::int32_t> counts;
  if (plan.starts_with(kLayersColon)) {
    std::int64_t sum = 0;
    for (absl::string_view part : absl::StrSplit(AbslView(plan.substr(kLayersColon.size())), ',')) {
      std::int32_t count = 0;
      if (!absl::SimpleAtoi(part, &count) || count < 1) {
        return absl::InvalidArgumentError(
            Cat("plan '", plan, "': expected a count of 1 or more, found '", part, "'"));
      }
      counts.push_back(count);
      sum += count;
    }
    if (sum != layers) {
      return absl::InvalidArgumentError(
          Cat("plan '", plan, "': expected counts that sum to ", layers, " layers, found ", sum));
    }
    if (counts.size() != workers) {
      return absl::InvalidArgumentError(
          Cat("plan '", plan, "': expected ", counts.size(), " workers, found ", workers));
    }
    return counts;
  }
  const auto n = static_cast<std::int32_t>(workers);
  if (n < 1 || n > layers) {
    return absl::InvalidArgumentError(Cat("plan '", plan, "': expected 1 to ", layers,
                                          " workers (one layer each at least), found ", n));
  }
  for (std::int32_t i = 0; i < n; ++i) counts.push_back(layers / n + (i < layers % n ? 1 : 0));
  return counts;
}

PlanRoute Enclosed(RouteUse use, const std::string& end_worker,
                   const std::vector<StagePlacement>& layers) {
  PlanRoute route{use, {{end_worker, StagePart::kEmbed, 0, 0}}};
  route.stages.insert(route.stages.end(), layers.begin(), layers.end());
  route.stages.push_back({end_worker, StagePart::kHead, 0, 0});
  return route;
}

Plan OneRoute(std::string_view name, const std::string& end_worker,
              const std::vector<StagePlacement>& layers) {
  return {std::string(name.substr(0, name.find(':'))),
          {Enclosed(RouteUse::kAll, end_worker, layers)}};
}

// The halves of each layer on two workers.
std::vector<StagePlacement> Halves(const ModelConfig& config, const std::string& attention,
                                   const std::string& ffn) {
  std::vector<StagePlacement> stages;
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    stages.push_back({attention, StagePart::kAttention, layer, layer + 1});
    stages.push_back({ffn, StagePart::kFfn, layer, layer + 1});
  }
  return stages;
}

// The products of each layer on one worker, attention itself on the other.
std::vector<StagePlacement> Products(const ModelConfig& config, const std::string& products,
                                     const std::string& attention) {
  std::vector<StagePlacement> stages;
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    stages.push_back({products, StagePart::kQkv, layer, layer + 1});
    stages.push_back({attention, StagePart::kAttend, layer, layer + 1});
    stages.push_back({products, StagePart::kOutput, layer, layer + 1});
    stages.push_back({products, StagePart::kFfn, layer, layer + 1});
  }
  return stages;
}

absl::StatusOr<Plan> MakeLayersPlan(std::string_view name, const ModelConfig& config,
                                    const std::vector<PlanWorker>& workers) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::int32_t> counts,
                          LayerCounts(name, config.num_layers, workers.size()));
  std::vector<StagePlacement> stages;
  std::int32_t next = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    stages.push_back({workers[i].name, StagePart::kBoth, next, next + counts[i]});
    next += counts[i];
  }
  return OneRoute(name, workers[counts.size() - 1].name, stages);
}

absl::StatusOr<Plan> MakeSplitPlan(std::string_view name, const ModelConfig& config,
                                   const std::vector<PlanWorker>& workers) {
  TANDEM_ASSIGN_OR_RETURN(const std::string npu, FirstOfRole(name, WorkerRole::kNpu, workers));
  TANDEM_ASSIGN_OR_RETURN(const std::string gpu, FirstOfRole(name, WorkerRole::kGpu, workers));
  return OneRoute(name, gpu, Halves(config, npu, gpu));
}

absl::StatusOr<Plan> MakeHybridPlan(std::string_view name, const ModelConfig& config,
                                    const std::vector<PlanWorker>& workers) {
  TANDEM_ASSIGN_OR_RETURN(const std::string npu, FirstOfRole(name, WorkerRole::kNpu, workers));
  TANDEM_ASSIGN_OR_RETURN(const std::string gpu, FirstOfRole(name, WorkerRole::kGpu, workers));
  const StagePlacement whole{gpu, StagePart::kBoth, 0, config.num_layers};
  return Plan{std::string(name),
              {Enclosed(RouteUse::kDecode, gpu, {whole}),
               Enclosed(RouteUse::kPrefill, gpu, Products(config, npu, gpu))}};
}

absl::Status CheckWorkers(const std::vector<PlanWorker>& workers) {
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (workers[i].name.empty())
      return absl::InvalidArgumentError(Cat("worker ", i, ": expected a name, found none"));
    for (std::size_t j = 0; j < i; ++j) {
      if (workers[j].name == workers[i].name) {
        return absl::InvalidArgumentError(
            Cat("workers: expected different names, found '", workers[i].name, "' twice"));
      }
    }
  }
  return absl::OkStatus();
}

std::string Describe(const StagePlacement& stage) {
  return Cat(NameOf(stage.part), " of layers [", stage.first_layer, ", ", stage.last_layer,
             ") on '", stage.worker, "'");
}

absl::Status WrongStage(std::size_t index, const std::string& expected,
                        const StagePlacement& found) {
  return absl::InvalidArgumentError(
      Cat("plan stage ", index, ": expected ", expected, ", found ", Describe(found)));
}

// The part of a layer that follows `part`, where more of the layer is due; kBoth at its end.
StagePart Following(StagePart part) {
  switch (part) {
    case StagePart::kQkv:
      return StagePart::kAttend;
    case StagePart::kAttend:
      return StagePart::kOutput;
    case StagePart::kAttention:
    case StagePart::kOutput:
      return StagePart::kFfn;
    default:
      return StagePart::kBoth;
  }
}

bool IsFirstOfLayer(StagePart part) {
  return part == StagePart::kBoth || part == StagePart::kAttention || part == StagePart::kQkv;
}

// Walks the inner stages; `due` is the part that must come next, kBoth where a layer begins.
absl::Status CheckLayerStages(const PlanRoute& route, std::int32_t num_layers) {
  std::int32_t layer = 0;
  StagePart due = StagePart::kBoth;
  std::string_view qkv_worker;
  for (std::size_t i = 1; i + 1 < route.stages.size(); ++i) {
    const StagePlacement& stage = route.stages[i];
    const bool begins = due == StagePart::kBoth;
    const std::string expected = Cat(begins ? "attention, qkv or both" : NameOf(due), " of layer ",
                                     layer, " (of ", num_layers, ")");
    if (stage.first_layer != layer || stage.last_layer <= layer || stage.last_layer > num_layers)
      return WrongStage(i, expected, stage);
    if (begins ? !IsFirstOfLayer(stage.part) : stage.part != due)
      return WrongStage(i, expected, stage);
    if (stage.part == StagePart::kBoth) {
      layer = stage.last_layer;
      continue;
    }
    if (stage.last_layer != layer + 1) return WrongStage(i, expected, stage);
    if (stage.part == StagePart::kQkv) qkv_worker = stage.worker;
    if (stage.part == StagePart::kAttend && stage.worker == qkv_worker)
      return WrongStage(i, Cat(expected, " on another worker than its qkv"), stage);
    if (stage.part == StagePart::kOutput && stage.worker != qkv_worker)
      return WrongStage(i, Cat(expected, " on '", qkv_worker, "' as its qkv"), stage);
    due = Following(stage.part);
    if (due == StagePart::kBoth) ++layer;
  }
  const bool whole = due == StagePart::kBoth;
  if (layer == num_layers && whole) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("expected all ", num_layers, " layers, found ",
                                        whole ? "nothing from" : Cat("no ", NameOf(due), " of"),
                                        " layer ", layer));
}

absl::Status CheckRoute(const PlanRoute& route, const ModelConfig& config,
                        const std::vector<PlanWorker>& workers) {
  const std::vector<StagePlacement>& stages = route.stages;
  if (stages.size() < 3) {
    return absl::InvalidArgumentError(
        Cat("expected embed, layers and head, found ", stages.size(), " stages"));
  }
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const std::string& name = stages[i].worker;
    if (std::none_of(workers.begin(), workers.end(),
                     [&](const PlanWorker& w) { return w.name == name; })) {
      return WrongStage(i, Cat("one of ", workers.size(), " known workers"), stages[i]);
    }
  }
  const StagePlacement& first = stages.front();
  const StagePlacement& last = stages.back();
  if (first.part != StagePart::kEmbed || first.first_layer != 0 || first.last_layer != 0)
    return WrongStage(0, "embed, no layers", first);
  if (last.part != StagePart::kHead || last.first_layer != 0 || last.last_layer != 0)
    return WrongStage(stages.size() - 1, "head, no layers", last);
  if (first.worker != last.worker) {
    return WrongStage(stages.size() - 1,
                      Cat("the head beside the embedding on '", first.worker, "'"), last);
  }
  return CheckLayerStages(route, config.num_layers);
}

// The worker of each layer's attention, in a route that was checked.
std::vector<std::string_view> AttentionWorkers(const PlanRoute& route) {
  std::vector<std::string_view> workers;
  for (const StagePlacement& stage : route.stages) {
    if (!Attends(stage.part)) continue;
    for (std::int32_t layer = stage.first_layer; layer < stage.last_layer; ++layer)
      workers.push_back(stage.worker);
  }
  return workers;
}

// What two routes that were checked must have in common.
absl::Status CheckAlike(const PlanRoute& a, const PlanRoute& b) {
  if (a.stages.back().worker != b.stages.back().worker) {
    return absl::InvalidArgumentError(Cat("expected the head on '", a.stages.back().worker,
                                          "' as in route '", NameOf(a.use), "', found it on '",
                                          b.stages.back().worker, "'"));
  }
  const std::vector<std::string_view> of_a = AttentionWorkers(a);
  const std::vector<std::string_view> of_b = AttentionWorkers(b);
  const auto [in_a, in_b] = std::mismatch(of_a.begin(), of_a.end(), of_b.begin());
  if (in_a == of_a.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("expected attention of layer ", in_a - of_a.begin(), " on '", *in_a, "' as in route '",
          NameOf(a.use), "', whose keys and values are there, found it on '", *in_b, "'"));
}

absl::Status CheckUses(const Plan& plan) {
  std::string found;
  for (const PlanRoute& route : plan.routes)
    found += Cat(found.empty() ? "" : ", ", NameOf(route.use));
  if (found == "all" || found == "decode, prefill") return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("expected one route for all steps, or one for decode and "
          "one for prefill, found ",
          plan.routes.size(), plan.routes.empty() ? "" : ": ", found));
}

}  // namespace

std::string DefaultPlanName(const std::vector<WorkerRole>& roles) {
  const bool gpu = std::count(roles.begin(), roles.end(), WorkerRole::kGpu) > 0;
  const bool npu = std::count(roles.begin(), roles.end(), WorkerRole::kNpu) > 0;
  return gpu && npu ? "auto" : gpu ? "gpu" : "npu";
}

absl::Status CheckPlanName(std::string_view name, const std::vector<WorkerRole>& roles) {
  if (name == "auto" || name == "layers" || name.starts_with(kLayersColon)) return absl::OkStatus();
  const bool both = name == "split" || name == "hybrid";
  if (name != "gpu" && name != "npu" && !both) {
    return absl::InvalidArgumentError(Cat(
        "expected auto, gpu, npu, split, hybrid, layers or layers:N,N,..., found '", name, "'"));
  }
  for (const WorkerRole role : {WorkerRole::kGpu, WorkerRole::kNpu}) {
    const bool needed = both || name == NameOf(role);
    if (needed && std::count(roles.begin(), roles.end(), role) == 0) {
      return absl::InvalidArgumentError(
          Cat("'", name, "': expected a worker of role '", NameOf(role), "', found none"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Plan> MakePlan(std::string_view name, const ModelConfig& config,
                              const std::vector<PlanWorker>& workers) {
  TANDEM_RETURN_IF_ERROR(CheckWorkers(workers));
  if (name == "gpu" || name == "npu") {
    const WorkerRole role = name == "gpu" ? WorkerRole::kGpu : WorkerRole::kNpu;
    TANDEM_ASSIGN_OR_RETURN(const std::string worker, FirstOfRole(name, role, workers));
    return OneRoute(name, worker, {{worker, StagePart::kBoth, 0, config.num_layers}});
  }
  if (name == "split") return MakeSplitPlan(name, config, workers);
  if (name == "hybrid") return MakeHybridPlan(name, config, workers);
  if (name == "layers" || name.starts_with(kLayersColon))
    return MakeLayersPlan(name, config, workers);
  return absl::InvalidArgumentError(
      Cat("plan: expected gpu, npu, split, hybrid, layers or layers:N,N,..., found '", name, "'"));
}

absl::Status ValidatePlan(const Plan& plan, const ModelConfig& config,
                          const std::vector<PlanWorker>& workers) {
  TANDEM_RETURN_IF_ERROR(CheckWorkers(workers));
  const std::string context = Cat("plan '", plan.name, "'");
  TANDEM_RETURN_IF_ERROR(Annotate(CheckUses(plan), context));
  for (const PlanRoute& route : plan.routes) {
    const std::string of_route =
        plan.routes.size() == 1 ? context : Cat(context, ": route '", NameOf(route.use), "'");
    TANDEM_RETURN_IF_ERROR(Annotate(CheckRoute(route, config, workers), of_route));
    TANDEM_RETURN_IF_ERROR(Annotate(CheckAlike(plan.routes.front(), route), of_route));
  }
  return absl::OkStatus();
}

const std::string& HeadWorkerOf(const Plan& plan) {
  return plan.routes.front().stages.back().worker;
}

std::set<std::string> WorkersOf(const Plan& plan) {
  std::set<std::string> names;
  for (const PlanRoute& route : plan.routes)
    for (const StagePlacement& stage : route.stages) names.insert(stage.worker);
  return names;
}

std::vector<std::string> RegionsOf(const Plan& plan, std::string_view worker) {
  std::vector<std::string> names;
  const auto add = [&](std::string name) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(std::move(name));
  };
  for (const PlanRoute& route : plan.routes) {
    for (const StagePlacement& stage : route.stages) {
      if (stage.worker != worker) continue;
      if (stage.part == StagePart::kEmbed || stage.part == StagePart::kHead) {
        add(RegionName(WeightPart::kEmbedding, -1));
        continue;
      }
      for (std::int32_t layer = stage.first_layer; layer < stage.last_layer; ++layer) {
        if (stage.part != StagePart::kFfn) add(RegionName(WeightPart::kAttention, layer));
        if (stage.part == StagePart::kFfn || stage.part == StagePart::kBoth)
          add(RegionName(WeightPart::kFfn, layer));
      }
    }
  }
  return names;
}

std::vector<PlanEdge> EdgesOf(const Plan& plan) {
  std::vector<PlanEdge> edges;
  for (const PlanRoute& route : plan.routes) {
    for (std::size_t i = 0; i + 1 < route.stages.size(); ++i) {
      const PlanEdge edge{route.stages[i].worker, route.stages[i + 1].worker};
      if (edge.from == edge.to) continue;
      if (std::find(edges.begin(), edges.end(), edge) == edges.end()) edges.push_back(edge);
    }
  }
  return edges;
}

std::int32_t EdgeColumns(const Plan& plan, const PlanEdge& edge, const ModelConfig& config) {
  std::int32_t widest = 0;
  for (const PlanRoute& route : plan.routes) {
    for (std::size_t i = 0; i + 1 < route.stages.size(); ++i) {
      if (edge != PlanEdge{route.stages[i].worker, route.stages[i + 1].worker}) continue;
      const StagePart part = route.stages[i].part;
      widest = std::max(widest, part == StagePart::kQkv      ? ProjectedColumns(config)
                                : part == StagePart::kAttend ? AttendedColumns(config)
                                                             : config.hidden_size);
    }
  }
  return widest;
}

}  // namespace tandem
