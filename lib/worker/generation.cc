#include "lib/worker/generation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/weights/region_socket.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/weights_wire.h"
#include "lib/worker/edge.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

constexpr absl::Duration kRegionTimeout = absl::Seconds(10);
constexpr double kLongestConnectSeconds = 600;

absl::StatusOr<ActivationType> ParseActivations(const std::string& name) {
  if (name == "float32") return ActivationType::kFloat32;
  if (name == "int8") return ActivationType::kInt8;
  return absl::InvalidArgumentError(
      absl::StrCat("activations: expected float32 or int8, found '", name, "'"));
}

absl::StatusOr<KvType> ParseKvType(const std::string& name) {
  if (name == "float32") return KvType::kFloat32;
  if (name == "float16") return KvType::kFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("kv_type: expected float32 or float16, found '", name, "'"));
}

absl::Status CheckAtLeast(const char* field, std::int64_t least, std::int64_t value) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected ", least, " or more, found ", value));
}

absl::StatusOr<EdgeEndSpec> ParseEdge(const v1::EdgeSpec& message, const Generation& generation) {
  EdgeEndSpec spec;
  spec.id = message.id();
  spec.from = message.from();
  spec.to = message.to();
  spec.end = message.from() == generation.worker ? EdgeEnd::kProducer : EdgeEnd::kConsumer;
  spec.owner = message.owner() == generation.worker;
  spec.owner_fd_socket = message.owner_fd_socket();
  spec.consumer_address = message.consumer_address();
  spec.generation = generation.number;
  if (message.id().empty() || message.id().size() > 200) {
    return absl::InvalidArgumentError(
        absl::StrCat("edge id: expected 1 to 200 bytes, found ", message.id().size()));
  }
  if (message.owner() != message.from() && message.owner() != message.to()) {
    return absl::InvalidArgumentError(absl::StrCat("edge ", spec.id, ": owner: expected ",
                                                   spec.from, " or ", spec.to, ", found '",
                                                   message.owner(), "'"));
  }
  if (message.slots() < 1 || message.slots() > kMaxEdgeSlots) {
    return absl::InvalidArgumentError(absl::StrCat("edge ", spec.id, ": slots: expected 1 to ",
                                                   kMaxEdgeSlots, ", found ", message.slots()));
  }
  for (const std::string& name : message.kinds()) {
    TANDEM_ASSIGN_OR_RETURN(const HandleKind kind, ParseHandleKind(name));
    if (std::find(spec.kinds.begin(), spec.kinds.end(), kind) == spec.kinds.end())
      spec.kinds.push_back(kind);
  }
  if (spec.kinds.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("edge ", spec.id, ": kinds: expected one at least, found none"));
  spec.layout = MakeResidualLayout(message.slots(), generation.bounds.limits.max_tokens,
                                   generation.bounds.config.hidden_size);
  return spec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Generation>> Generation::Parse(const v1::PrepareRequest& request) {
  auto generation = std::make_unique<Generation>();
  generation->number = request.generation();
  generation->worker = request.worker();
  TANDEM_RETURN_IF_ERROR(
      CheckAtLeast("generation", 1, static_cast<std::int64_t>(request.generation())));
  TANDEM_ASSIGN_OR_RETURN(generation->bounds.config, FromProto(request.config()));
  TANDEM_ASSIGN_OR_RETURN(generation->plan, FromProto(request.plan(), generation->bounds.config));
  TANDEM_ASSIGN_OR_RETURN(generation->bounds.limits, FromProto(request.limits()));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("global_blocks", 0, request.global_blocks()));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("window_blocks", 0, request.window_blocks()));
  generation->bounds.global_blocks = request.global_blocks();
  generation->bounds.window_blocks = request.window_blocks();
  TANDEM_ASSIGN_OR_RETURN(generation->activations, ParseActivations(request.activations()));
  TANDEM_ASSIGN_OR_RETURN(
      generation->layout,
      LayOutStages(generation->plan, generation->bounds.config, generation->worker));
  generation->kv_spec = {generation->layout.attention_layers, request.global_blocks(),
                         request.window_blocks(), KvType::kFloat32};
  TANDEM_ASSIGN_OR_RETURN(generation->kv_spec.type, ParseKvType(request.kv_type()));
  return generation;
}

absl::Status Generation::Allocate(const v1::PrepareRequest& request, Device& device,
                                  WeightsStore& weights) {
  std::vector<RegionManifest> manifests;
  for (const v1::RegionManifest& message : request.regions()) {
    TANDEM_ASSIGN_OR_RETURN(RegionManifest manifest, FromProto(message, bounds.config));
    manifests.push_back(std::move(manifest));
  }
  const auto fetch = [&](const std::string& name) -> absl::StatusOr<UniqueFd> {
    absl::StatusOr<UniqueFd> fd = FetchRegionFd(request.region_socket(), name, kRegionTimeout);
    // UNAVAILABLE is kept for the device: a loader that is gone is no reason for this process to
    // end.
    if (absl::IsUnavailable(fd.status()))
      return absl::FailedPreconditionError(fd.status().message());
    return fd;
  };
  TANDEM_RETURN_IF_ERROR(weights.Load(device, bounds.config, request.fingerprint(),
                                      RegionsOf(plan, worker), manifests, fetch));
  if (kv_spec.layers.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<KvCache>> cache = device.CreateKvCache(bounds.config, kv_spec);
  if (!cache.ok()) return Annotate(cache.status(), "KV cache");
  kv_cache = *std::move(cache);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<EdgeEndSpec>> Generation::ParseEdges(
    const v1::ConnectRequest& request) const {
  if (!(request.timeout_seconds() > 0 && request.timeout_seconds() <= kLongestConnectSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("timeout_seconds: expected more than 0 and at most ", kLongestConnectSeconds,
                     ", found ", request.timeout_seconds()));
  }
  std::vector<EdgeEndSpec> specs;
  for (const LocalEdge& edge : layout.edges) {
    const auto found =
        std::find_if(request.edges().begin(), request.edges().end(), [&](const v1::EdgeSpec& m) {
          return m.from() == edge.ends.from && m.to() == edge.ends.to;
        });
    if (found == request.edges().end()) {
      return absl::InvalidArgumentError(absl::StrCat("edges: expected one from ", edge.ends.from,
                                                     " to ", edge.ends.to, ", found none among ",
                                                     request.edges_size()));
    }
    TANDEM_ASSIGN_OR_RETURN(EdgeEndSpec spec, ParseEdge(*found, *this));
    specs.push_back(std::move(spec));
  }
  if (request.edges_size() != static_cast<int>(specs.size())) {
    return absl::InvalidArgumentError(absl::StrCat("edges: expected the ", specs.size(),
                                                   " of worker ", worker, ", found ",
                                                   request.edges_size()));
  }
  return specs;
}

absl::StatusOr<std::unique_ptr<StepRunner>> Generation::Compile(Device& device,
                                                                const WeightsStore& weights) {
  StepRunner::Parts parts;
  parts.generation = number;
  parts.layout = layout;
  parts.bounds = bounds;
  for (const LocalEdge& local : layout.edges) {
    const auto found = std::find_if(edges.begin(), edges.end(), [&](const auto& edge) {
      return edge->spec.from == local.ends.from && edge->spec.to == local.ends.to;
    });
    TANDEM_CHECK(found != edges.end());
    parts.edges.push_back(found->get());
  }
  ProgramSpec program;
  program.weights = weights.all();
  program.kv_cache = kv_cache.get();
  program.limits = bounds.limits;
  program.activations = activations;
  program.contexts = 1;
  for (const LocalStage& stage : layout.stages) {
    ProgramStage& bound = program.stages.emplace_back();
    bound.spec = stage.spec;
    if (stage.input_edge != kNoEdge)
      bound.input = parts.edges[static_cast<std::size_t>(stage.input_edge)]->residual.get();
    if (stage.output_edge != kNoEdge)
      bound.output = parts.edges[static_cast<std::size_t>(stage.output_edge)]->residual.get();
  }
  absl::StatusOr<std::unique_ptr<Program>> compiled = device.Compile(bounds.config, program);
  if (!compiled.ok()) return Annotate(compiled.status(), "compiling");
  parts.program = *std::move(compiled);
  return std::make_unique<StepRunner>(std::move(parts));
}

void Generation::Close() {
  watcher.reset();
  edges.clear();
}

}  // namespace tandem
