#include "gateway/dispatch/cluster_setup.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/model/kv_layout.h"
#include "lib/model/plan.h"
#include "lib/wire/model_wire.h"

namespace tandem {
namespace {

// Of a device's own memory, what programs need beside weights and cache: a part of it and some.
constexpr std::uint64_t kScratchBytes = std::uint64_t{512} << 20;
constexpr std::uint64_t kScratchShare = 16;

absl::Status CheckOptions(const ClusterOptions& options) {
  if (options.workers.empty())
    return absl::InvalidArgumentError("workers: expected at least one, found none");
  std::set<std::string> names;
  for (const ClusterWorker& worker : options.workers) {
    if (worker.name.empty() || worker.address.empty() || !names.insert(worker.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("workers: expected different names, each with an address; found '",
                       worker.name, "' at '", worker.address, "'"));
    }
  }
  if (options.edge_kinds.empty())
    return absl::InvalidArgumentError("edge kinds: expected at least one, found none");
  if (options.edge_slots < 1 || options.edge_slots > 32) {
    return absl::InvalidArgumentError(
        absl::StrCat("edge slots: expected 1 to 32, found ", options.edge_slots));
  }
  if (options.micro_batches < 0 || options.micro_batches > kMostMicroBatches) {
    return absl::InvalidArgumentError(absl::StrCat(
        "micro-batches: expected 0 to ", kMostMicroBatches, ", found ", options.micro_batches));
  }
  return absl::OkStatus();
}

absl::StatusOr<ServedModel> ReadModel(const v1::Model& message) {
  ServedModel model;
  TANDEM_ASSIGN_OR_RETURN(model.config, FromProto(message.config()));
  TANDEM_ASSIGN_OR_RETURN(model.vocabulary, FromProto(message.vocabulary()));
  model.weight_format = message.weight_format();
  model.weight_bytes = message.weight_bytes();
  model.files.assign(message.files().begin(), message.files().end());
  model.fingerprint = message.fingerprint();
  model.loader_metrics = message.metrics();
  return model;
}

absl::Status TakePlan(ClusterSetup* setup) {
  const ClusterOptions& options = setup->options;
  std::string first = options.plan;
  if (options.plan == kAutoPlan) {
    std::vector<PlanWorker> workers;
    for (const ClusterWorker& worker : options.workers)
      workers.push_back({worker.name, worker.role});
    setup->auto_plans = AutoCandidates(workers, setup->model.config.num_layers);
    first = setup->auto_plans.front();
    if (setup->auto_plans.size() == 1) setup->auto_plans.clear();
  }
  TANDEM_ASSIGN_OR_RETURN(setup->plan, MakeClusterPlan(first, setup->model.config, options.workers,
                                                       options.micro_batches));
  for (const ClusterWorker& worker : options.workers)
    setup->recovery.workers.push_back(worker.name);
  return absl::OkStatus();
}

absl::Status TakeSizes(ClusterSetup* setup) {
  ClusterOptions& options = setup->options;
  const ModelConfig& config = setup->model.config;
  if (options.context_tokens > config.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context: expected at most ", config.max_positions,
                     " tokens (what the model was trained for), found ", options.context_tokens));
  }
  if (config.bidirectional && !options.step_tokens_given) {
    const std::int32_t context =
        options.context_tokens > 0 ? options.context_tokens : kDefaultContextTokens;
    options.limits.max_tokens = std::max(options.limits.max_tokens,
                                         std::min({context, config.max_positions, kMaxStepTokens}));
  }
  KvPlanRequest& request = setup->kv_request;
  request.context_tokens =
      options.context_tokens > 0 ? options.context_tokens : kDefaultContextTokens;
  request.limits = options.limits;
  // An encoder's keys and values are of use in their step alone: what the steps in flight hold, and
  // the next one, however many texts they are.
  if (config.bidirectional) {
    request.limits.max_sequences =
        std::min(request.limits.max_sequences, options.steps_in_flight + 1);
  }
  request.memory_bytes = options.kv_memory_bytes;
  request.memory_is_hard = options.kv_memory_bytes > 0;
  setup->kv_by_workers = !request.memory_is_hard;
  request.type = options.kv_type;
  TANDEM_ASSIGN_OR_RETURN(setup->kv, PlanKvCache(config, request));

  SchedulerOptions& scheduler = setup->scheduler;
  scheduler.limits = options.limits;
  scheduler.limits.max_blocks_per_sequence = static_cast<std::int32_t>(
      CeilDiv(static_cast<std::uint64_t>(setup->kv.context_tokens), kKvBlockTokens));
  scheduler.context_tokens = setup->kv.context_tokens;
  scheduler.vocab_size = config.vocab_size;
  scheduler.hidden_size = config.hidden_size;
  scheduler.sliding_window = config.sliding_window;
  scheduler.encoder = config.bidirectional;
  scheduler.global_blocks = setup->kv.global_blocks;
  scheduler.window_blocks = setup->kv.window_blocks;
  scheduler.max_waiting = options.max_waiting;
  scheduler.mixed_prefill_tokens = options.mixed_prefill_tokens;
  scheduler.steps_in_flight = options.steps_in_flight;
  scheduler.micro_batches = setup->plan->micro_batches;
  scheduler.prefill_micro_batches = setup->plan->prefill_micro_batches;
  scheduler.min_micro_batch_tokens = options.min_micro_batch_tokens;
  scheduler.max_step_bytes = options.max_step_bytes;
  scheduler.eos_ids = config.eos_ids;
  setup->model.context_tokens = setup->kv.context_tokens;
  return ValidateSchedulerOptions(scheduler);
}

// What one full context takes.
struct KvContext {
  std::int32_t tokens = 0;
  // In each layer of the group.
  std::uint64_t global_blocks = 0;
  std::uint64_t window_blocks = 0;
  std::uint64_t block_bytes = 0;

  std::uint64_t Bytes(std::uint64_t global_layers, std::uint64_t window_layers) const {
    return block_bytes * (global_blocks * global_layers + window_blocks * window_layers);
  }
};

std::uint64_t LayersOf(const ModelConfig& config, bool global) {
  return static_cast<std::uint64_t>(
      std::count(config.layer_is_global.begin(), config.layer_is_global.end(), global));
}

absl::StatusOr<KvContext> OneContext(const ModelConfig& config, const KvPlanRequest& request) {
  if (request.context_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("context: expected at least 1 token, found ", request.context_tokens));
  }
  KvContext one;
  one.tokens = std::min(request.context_tokens, config.max_positions);
  one.block_bytes = 2 * KvBlockBytes(config.num_kv_heads, config.head_dim, request.type);
  // All of it in the global group; in the other what a chunk of max_tokens sees
  // (Scheduler::WindowPeak).
  const std::uint64_t seen = static_cast<std::uint64_t>(config.sliding_window) +
                             static_cast<std::uint64_t>(request.limits.max_tokens);
  one.global_blocks = CeilDiv(static_cast<std::uint64_t>(one.tokens), kKvBlockTokens);
  one.window_blocks = std::min(one.global_blocks, seen / kKvBlockTokens + 2);
  return one;
}

// Of so many contexts, at least one, at most max_sequences.
KvPlan PlanOf(const ModelConfig& config, const KvPlanRequest& request, const KvContext& one,
              std::uint64_t contexts) {
  contexts = std::clamp<std::uint64_t>(contexts, 1,
                                       static_cast<std::uint64_t>(request.limits.max_sequences));
  KvPlan plan;
  plan.context_tokens = one.tokens;
  plan.global_blocks = static_cast<std::int32_t>(contexts * one.global_blocks);
  plan.window_blocks = static_cast<std::int32_t>(contexts * one.window_blocks);
  plan.bytes = contexts * one.Bytes(LayersOf(config, true), LayersOf(config, false));
  return plan;
}

}  // namespace

absl::StatusOr<KvPlan> PlanKvCache(const ModelConfig& config, const KvPlanRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(const KvContext one, OneContext(config, request));
  const std::uint64_t unit = one.Bytes(LayersOf(config, true), LayersOf(config, false));
  if (unit > request.memory_bytes && request.memory_is_hard) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache: one context of ", one.tokens, " tokens needs ", unit >> 20,
                     " MiB, found a limit of ", request.memory_bytes >> 20,
                     " MiB: lower the context or raise the limit"));
  }
  return PlanOf(config, request, one, request.memory_bytes / std::max<std::uint64_t>(unit, 1));
}

KvWorker KvLayersOf(const Plan& plan, const ModelConfig& config, const std::string& worker) {
  KvWorker found{worker, 0, 0, 0};
  // In every route the same.
  for (const StagePlacement& stage : plan.routes.front().stages) {
    if (stage.worker != worker) continue;
    if (!Attends(stage.part)) continue;
    for (std::int32_t layer = stage.first_layer; layer < stage.last_layer; ++layer) {
      const bool global = config.layer_is_global[static_cast<std::size_t>(layer)];
      ++(global ? found.global_layers : found.window_layers);
    }
  }
  return found;
}

std::uint64_t KvMemoryOf(const v1::DeviceDescription& device, std::uint64_t weight_bytes) {
  if (device.budget_bytes() == 0) return kDefaultKvMemoryBytes;
  if (!device.own_memory()) return device.budget_bytes();
  const std::uint64_t taken = weight_bytes + kScratchBytes + device.budget_bytes() / kScratchShare;
  return device.budget_bytes() - std::min(device.budget_bytes(), taken);
}

absl::StatusOr<KvPlan> PlanKvCacheOver(const ModelConfig& config, const KvPlanRequest& request,
                                       const std::vector<KvWorker>& workers) {
  TANDEM_ASSIGN_OR_RETURN(const KvContext one, OneContext(config, request));
  auto contexts = static_cast<std::uint64_t>(request.limits.max_sequences);
  for (const KvWorker& worker : workers) {
    const std::uint64_t unit = one.Bytes(static_cast<std::uint64_t>(worker.global_layers),
                                         static_cast<std::uint64_t>(worker.window_layers));
    if (unit > worker.memory_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "KV cache: one context of ", one.tokens, " tokens needs ", unit >> 20, " MiB on worker ",
          worker.name, ", which has ", worker.memory_bytes >> 20,
          " MiB for it: lower --context, or say with --kv_memory how much to take all the same"));
    }
    contexts = std::min(contexts, worker.memory_bytes / std::max<std::uint64_t>(unit, 1));
  }
  return PlanOf(config, request, one, contexts);
}

absl::Status CheckPlanMemory(const Plan& plan, const PlanMemory& memory,
                             const std::vector<v1::WorkerDescription>& workers) {
  std::vector<KvWorker> kv_workers;
  for (const v1::WorkerDescription& described : workers) {
    const v1::DeviceDescription& device = described.device();
    std::uint64_t weight_bytes = 0;
    for (const std::string& region : RegionsOf(plan, described.name())) {
      for (const auto& [name, bytes] : memory.region_bytes)
        weight_bytes += name == region ? bytes : 0;
    }
    if (device.own_memory() && device.budget_bytes() > 0 && weight_bytes > device.budget_bytes()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("weights of ", weight_bytes >> 20, " MiB on worker ", described.name(),
                       ", which has ", device.budget_bytes() >> 20, " MiB"));
    }
    KvWorker worker = KvLayersOf(plan, memory.config, described.name());
    if (worker.global_layers + worker.window_layers == 0) continue;
    worker.memory_bytes = KvMemoryOf(device, weight_bytes);
    kv_workers.push_back(std::move(worker));
  }
  if (!memory.kv_by_workers) return absl::OkStatus();
  return PlanKvCacheOver(memory.config, memory.kv_request, kv_workers).status();
}

absl::StatusOr<PlanSizes> SizePlan(const ClusterSetup& setup, const ClusterPlan& plan,
                                   const std::vector<KvWorker>& workers) {
  const auto kv_of = [&](std::int32_t max_tokens) {
    KvPlanRequest request = setup.kv_request;
    request.limits.max_tokens = max_tokens;
    return setup.kv_by_workers ? PlanKvCacheOver(setup.model.config, request, workers)
                               : PlanKvCache(setup.model.config, request);
  };
  PlanSizes sizes{{}, setup.scheduler.limits};
  const std::int32_t usual = sizes.limits.max_tokens;
  if (plan.prefill_micro_batches > 0) {
    sizes.limits.max_decode_tokens =
        std::min(usual, std::max(StepLimits().max_tokens, sizes.limits.max_sequences));
    std::int32_t tokens =
        std::min(kMaxStepTokens, kPrefillChunkTokens * plan.prefill_micro_batches);
    if (setup.options.step_tokens_given) tokens = usual;
    for (; tokens > usual; tokens /= 2) {
      SchedulerOptions scheduler = setup.scheduler;
      scheduler.limits = sizes.limits;
      scheduler.limits.max_tokens = tokens;
      absl::StatusOr<KvPlan> kv = kv_of(tokens);
      if (!kv.ok() || !ValidateSchedulerOptions(scheduler).ok()) continue;
      return PlanSizes{*std::move(kv), scheduler.limits};
    }
  }
  TANDEM_ASSIGN_OR_RETURN(sizes.kv, kv_of(usual));
  return sizes;
}

absl::StatusOr<ClusterSetup> MakeClusterSetup(ClusterOptions options, const v1::Model& message) {
  TANDEM_RETURN_IF_ERROR(CheckOptions(options));
  ClusterSetup setup;
  setup.options = std::move(options);
  TANDEM_ASSIGN_OR_RETURN(setup.model, ReadModel(message));
  setup.config = message.config();
  TANDEM_RETURN_IF_ERROR(TakePlan(&setup));
  TANDEM_RETURN_IF_ERROR(TakeSizes(&setup));
  setup.recovery.recovery_timeout = setup.options.recovery_timeout;
  setup.recovery.step_timeout = setup.options.step_timeout;
  setup.recovery.prepare_timeout = setup.options.prepare_timeout;
  setup.recovery.connect_timeout = setup.options.connect_timeout;
  return setup;
}

}  // namespace tandem
