#include "lib/worker/plan_part.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"
#include "lib/step/step_plan.h"
#include "lib/weights/region_socket.h"
#include "lib/wire/model_wire.h"
#include "lib/wire/weights_wire.h"
#include "lib/worker/edge.h"
#include "lib/worker/step_loop.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

constexpr absl::Duration kRegionTimeout = absl::Seconds(10);
constexpr double kLongestConnectSeconds = 600;

absl::Status CheckAtLeast(const char* field, std::int64_t least, std::int64_t value) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected ", least, " or more, found ", value));
}

absl::Status CheckAtMost(const char* field, std::size_t most, std::int32_t value) {
  if (value >= 0 && static_cast<std::size_t>(value) <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected 0 to ", most, ", found ", value));
}

}  // namespace

absl::StatusOr<EdgeEndSpec> ParseEdgeEnd(const v1::EdgeSpec& message, const EdgeBounds& bounds) {
  EdgeEndSpec spec;
  spec.id = message.id();
  spec.from = message.from();
  spec.to = message.to();
  spec.end = message.from() == bounds.worker ? EdgeEnd::kProducer : EdgeEnd::kConsumer;
  spec.owner = message.owner() == bounds.worker;
  spec.owner_fd_socket = message.owner_fd_socket();
  spec.consumer_address = message.consumer_address();
  spec.generation = bounds.generation;
  if (message.id().empty() || message.id().size() > 200) {
    return absl::InvalidArgumentError(
        absl::StrCat("edge id: expected 1 to 200 bytes, found ", message.id().size()));
  }
  if (message.owner() != message.from() && message.owner() != message.to()) {
    return absl::InvalidArgumentError(absl::StrCat("edge ", spec.id, ": owner: expected ",
                                                   spec.from, " or ", spec.to, ", found '",
                                                   message.owner(), "'"));
  }
  if (message.slots() < bounds.least_slots || message.slots() > kMaxEdgeSlots) {
    return absl::InvalidArgumentError(absl::StrCat("edge ", spec.id, ": slots: expected ",
                                                   bounds.least_slots, " to ", kMaxEdgeSlots,
                                                   ", found ", message.slots()));
  }
  for (const std::string& name : message.kinds()) {
    TANDEM_ASSIGN_OR_RETURN(const HandleKind kind, ParseEnum<HandleKind>("handle kind", name));
    if (std::find(spec.kinds.begin(), spec.kinds.end(), kind) == spec.kinds.end())
      spec.kinds.push_back(kind);
  }
  if (spec.kinds.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("edge ", spec.id, ": kinds: expected one at least, found none"));
  spec.layout = MakeResidualLayout(message.slots(), bounds.limits.max_tokens, bounds.columns);
  return spec;
}

absl::StatusOr<std::unique_ptr<PlanPart>> PlanPart::Parse(const v1::PrepareRequest& request) {
  auto part = std::make_unique<PlanPart>();
  part->number = request.generation();
  part->worker = request.worker();
  TANDEM_RETURN_IF_ERROR(
      CheckAtLeast("generation", 1, static_cast<std::int64_t>(request.generation())));
  TANDEM_ASSIGN_OR_RETURN(part->bounds.config, FromProto(request.config()));
  TANDEM_ASSIGN_OR_RETURN(part->plan, FromProto(request.plan(), part->bounds.config));
  TANDEM_ASSIGN_OR_RETURN(part->bounds.limits, FromProto(request.limits()));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("global_blocks", 0, request.global_blocks()));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("window_blocks", 0, request.window_blocks()));
  part->bounds.global_blocks = request.global_blocks();
  part->bounds.window_blocks = request.window_blocks();
  TANDEM_RETURN_IF_ERROR(
      CheckAtMost("max_micro_batches", kMaxMicroBatches, request.max_micro_batches()));
  part->bounds.max_micro_batches = std::max(1, request.max_micro_batches());
  TANDEM_RETURN_IF_ERROR(
      CheckAtMost("steps_in_flight", StepLoop::kMaxQueuedSteps, request.steps_in_flight()));
  TANDEM_ASSIGN_OR_RETURN(part->activations,
                          ParseEnum<ActivationType>("activations", request.activations()));
  TANDEM_ASSIGN_OR_RETURN(part->layout,
                          LayOutStages(part->plan, part->bounds.config, part->worker));
  part->bounds.head = part->layout.has_head;
  part->kv_spec = {part->layout.attention_layers, request.global_blocks(), request.window_blocks(),
                   KvType::kFloat32};
  TANDEM_ASSIGN_OR_RETURN(part->kv_spec.type, ParseEnum<KvType>("kv_type", request.kv_type()));
  return part;
}

absl::Status PlanPart::Allocate(const v1::PrepareRequest& request, Device& device,
                                WeightsStore& weights) {
  const absl::Time start = absl::Now();
  const auto seconds = [&] { return absl::ToDoubleSeconds(absl::Now() - start); };
  // Systems clear what they give, which takes seconds for a large cache: weights are brought to the
  // device meanwhile.
  absl::StatusOr<std::unique_ptr<KvCache>> cache = nullptr;
  double cache_seconds = 0;
  std::thread maker;
  if (!kv_spec.layers.empty()) {
    maker = std::thread([&] {
      cache = device.CreateKvCache(bounds.config, kv_spec);
      cache_seconds = seconds();
    });
  }
  const absl::Status loaded =
      LoadWeights(request.regions(), request.region_socket(), request.fingerprint(), bounds.config,
                  RegionsOf(plan, worker), device, weights);
  const double weight_seconds = seconds();
  if (maker.joinable()) maker.join();
  const std::uint64_t cache_bytes = cache.ok() && *cache != nullptr ? (*cache)->bytes() : 0;
  if (absl::IsResourceExhausted(loaded) && cache_bytes > 0)
    return Annotate(loaded, absl::StrCat("beside a KV cache of ", cache_bytes, " bytes"));
  TANDEM_RETURN_IF_ERROR(loaded);
  if (!cache.ok()) return Annotate(cache.status(), "KV cache");
  spdlog::info("generation {}: weights in {:.2f} s, beside them the KV cache in {:.2f} s", number,
               weight_seconds, cache_seconds);
  kv_cache = *std::move(cache);
  return absl::OkStatus();
}

absl::Status LoadWeights(const google::protobuf::RepeatedPtrField<v1::RegionManifest>& regions,
                         const std::string& region_socket, const std::string& fingerprint,
                         const ModelConfig& config, const std::vector<std::string>& names,
                         Device& device, WeightsStore& weights) {
  std::vector<RegionManifest> manifests;
  for (const v1::RegionManifest& message : regions) {
    TANDEM_ASSIGN_OR_RETURN(RegionManifest manifest, FromProto(message, config));
    manifests.push_back(std::move(manifest));
  }
  const auto fetch = [&](const RegionManifest& manifest) -> absl::StatusOr<RegionDescriptors> {
    absl::StatusOr<RegionDescriptors> fetched =
        FetchRegion(region_socket, manifest, kRegionTimeout);
    // UNAVAILABLE is kept for the device: a loader that is gone is no reason for this process to
    // end.
    if (absl::IsUnavailable(fetched.status()))
      return absl::FailedPreconditionError(fetched.status().message());
    return fetched;
  };
  return weights.Load(device, config, fingerprint, names, manifests, fetch);
}

absl::StatusOr<std::vector<EdgeEndSpec>> PlanPart::ParseEdges(
    const v1::ConnectRequest& request) const {
  if (!(request.timeout_seconds() > 0 && request.timeout_seconds() <= kLongestConnectSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("timeout_seconds: expected more than 0 and at most ", kLongestConnectSeconds,
                     ", found ", request.timeout_seconds()));
  }
  // The producer hands over all micro-batches of a stage before the consumer must take the first.
  EdgeBounds edge_bounds{worker, number, bounds.max_micro_batches, bounds.limits, 0};
  std::vector<EdgeEndSpec> specs;
  for (const PlanEdge& edge : layout.edges) {
    const auto found = std::find_if(
        request.edges().begin(), request.edges().end(),
        [&](const v1::EdgeSpec& m) { return m.from() == edge.from && m.to() == edge.to; });
    if (found == request.edges().end()) {
      return absl::InvalidArgumentError(absl::StrCat("edges: expected one from ", edge.from, " to ",
                                                     edge.to, ", found none among ",
                                                     request.edges_size()));
    }
    edge_bounds.columns = EdgeColumns(plan, edge, bounds.config);
    TANDEM_ASSIGN_OR_RETURN(EdgeEndSpec spec, ParseEdgeEnd(*found, edge_bounds));
    specs.push_back(std::move(spec));
  }
  if (request.edges_size() != static_cast<int>(specs.size())) {
    return absl::InvalidArgumentError(absl::StrCat("edges: expected the ", specs.size(),
                                                   " of worker ", worker, ", found ",
                                                   request.edges_size()));
  }
  return specs;
}

absl::StatusOr<std::unique_ptr<StepRunner>> PlanPart::Compile(Device& device,
                                                              const WeightsStore& weights,
                                                              TraceRecorder* trace) {
  StepRunner::Parts parts;
  parts.generation = number;
  parts.layout = layout;
  parts.bounds = bounds;
  parts.trace = trace;
  parts.masks = masks;
  for (const PlanEdge& ends : layout.edges) {
    const auto found = std::find_if(edges.begin(), edges.end(), [&](const auto& edge) {
      return edge->spec.from == ends.from && edge->spec.to == ends.to;
    });
    TANDEM_CHECK(found != edges.end());
    parts.edges.push_back(found->get());
  }
  const auto residual = [&](int edge) {
    return edge == kNoEdge ? nullptr : parts.edges[static_cast<std::size_t>(edge)]->residual.get();
  };
  if (layout.has_head && bounds.config.dense_size > 0) {
    const auto region = weights.Find(RegionName(WeightPart::kEmbedding, -1));
    if (region == nullptr)
      return absl::InternalError("expected the embedding's region, found none");
    TANDEM_ASSIGN_OR_RETURN(parts.embedding_head, EmbeddingHead::Make(*region));
  }
  ProgramSpec spec;
  for (std::size_t i = 0; i < layout.stages.size(); ++i) {
    const LocalStage& stage = layout.stages[i];
    const bool decodes_alone = layout.DecodesAlone(static_cast<std::int32_t>(i));
    spec.stages.push_back({stage.spec, residual(stage.input_edge), residual(stage.output_edge),
                           decodes_alone ? bounds.limits.max_decode_tokens : 0});
  }
  spec.weights = weights.all();
  spec.kv_cache = kv_cache.get();
  spec.limits = bounds.limits;
  spec.activations = activations;
  // Not more: the next step waits for the tokens of this one where it embeds, and elsewhere for
  // rows that come from there, so its inputs could never be put in place earlier.
  spec.contexts = bounds.max_micro_batches;
  absl::StatusOr<std::unique_ptr<Program>> program = device.Compile(bounds.config, spec);
  if (!program.ok()) return Annotate(program.status(), "compiling the stages");
  parts.program = *std::move(program);
  return std::make_unique<StepRunner>(std::move(parts));
}

void PlanPart::Close() {
  watcher.reset();
  edges.clear();
}

}  // namespace tandem
