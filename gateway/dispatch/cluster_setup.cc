#include "gateway/dispatch/cluster_setup.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/model/plan.h"
#include "lib/wire/model_wire.h"
#include "spdlog/spdlog.h"

namespace tandem {
namespace {

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
  return model;
}

absl::Status TakePlan(ClusterSetup* setup) {
  std::vector<PlanWorker> workers;
  for (const ClusterWorker& worker : setup->options.workers)
    workers.push_back({worker.name, worker.role});
  TANDEM_ASSIGN_OR_RETURN(setup->model.plan,
                          MakePlan(setup->options.plan, setup->model.config, workers));
  const Plan& plan = setup->model.plan;
  std::set<std::string> regions;
  for (const ClusterWorker& worker : setup->options.workers) {
    const std::vector<std::string> own = RegionsOf(plan, worker.name);
    if (own.empty()) {
      spdlog::warn("worker {} has no part in plan {}", worker.name, plan.name);
      continue;
    }
    if (worker.name == plan.stages.back().worker) setup->head = setup->workers.size();
    setup->workers.push_back(worker);
    setup->recovery.workers.push_back(worker.name);
    regions.insert(own.begin(), own.end());
  }
  setup->regions.assign(regions.begin(), regions.end());
  return absl::OkStatus();
}

absl::Status TakeSizes(ClusterSetup* setup) {
  const ClusterOptions& options = setup->options;
  const ModelConfig& config = setup->model.config;
  if (options.context_tokens > config.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context: expected at most ", config.max_positions,
                     " tokens (what the model was trained for), found ", options.context_tokens));
  }
  KvPlanRequest request;
  request.context_tokens =
      options.context_tokens > 0 ? options.context_tokens : kDefaultContextTokens;
  request.limits = options.limits;
  request.memory_bytes =
      options.kv_memory_bytes > 0 ? options.kv_memory_bytes : kDefaultKvMemoryBytes;
  request.memory_is_hard = options.kv_memory_bytes > 0;
  request.element_bytes = options.kv_type == KvType::kFloat16 ? 2 : 4;
  TANDEM_ASSIGN_OR_RETURN(setup->kv, PlanKvCache(config, request));

  SchedulerOptions& scheduler = setup->scheduler;
  scheduler.limits = options.limits;
  scheduler.limits.max_blocks_per_sequence = static_cast<std::int32_t>(
      CeilDiv(static_cast<std::uint64_t>(setup->kv.context_tokens), kKvBlockTokens));
  scheduler.context_tokens = setup->kv.context_tokens;
  scheduler.vocab_size = config.vocab_size;
  scheduler.sliding_window = config.sliding_window;
  scheduler.global_blocks = setup->kv.global_blocks;
  scheduler.window_blocks = setup->kv.window_blocks;
  scheduler.max_waiting = options.max_waiting;
  scheduler.mixed_prefill_tokens = options.mixed_prefill_tokens;
  scheduler.steps_in_flight = options.steps_in_flight;
  scheduler.micro_batches = options.micro_batches;
  if (options.micro_batches == 0)
    scheduler.micro_batches = StagesAlternate(setup->model.plan) ? 2 : 1;
  scheduler.min_micro_batch_tokens = options.min_micro_batch_tokens;
  scheduler.max_step_bytes = options.max_step_bytes;
  scheduler.eos_ids = config.eos_ids;
  setup->model.context_tokens = setup->kv.context_tokens;
  return ValidateSchedulerOptions(scheduler);
}

}  // namespace

absl::StatusOr<KvPlan> PlanKvCache(const ModelConfig& config, const KvPlanRequest& request) {
  if (request.context_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("context: expected at least 1 token, found ", request.context_tokens));
  }
  KvPlan plan;
  plan.context_tokens = std::min(request.context_tokens, config.max_positions);
  const auto context = static_cast<std::uint64_t>(plan.context_tokens);
  const std::uint64_t block_bytes = std::uint64_t{2} * kKvBlockTokens *
                                    static_cast<std::uint64_t>(config.num_kv_heads) *
                                    static_cast<std::uint64_t>(config.head_dim) *
                                    static_cast<std::uint64_t>(request.element_bytes);
  const auto global_layers = static_cast<std::uint64_t>(
      std::count(config.layer_is_global.begin(), config.layer_is_global.end(), true));
  const std::uint64_t window_layers = config.layer_is_global.size() - global_layers;

  // One full context: all of it in the global group; in the other what a chunk of max_tokens sees
  // (Scheduler::WindowPeak).
  const std::uint64_t seen = static_cast<std::uint64_t>(config.sliding_window) +
                             static_cast<std::uint64_t>(request.limits.max_tokens);
  const std::uint64_t global = CeilDiv(context, kKvBlockTokens);
  const std::uint64_t window = std::min(global, seen / kKvBlockTokens + 2);
  const std::uint64_t unit = block_bytes * (global * global_layers + window * window_layers);
  if (unit > request.memory_bytes && request.memory_is_hard) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache: one context of ", context, " tokens needs ", unit >> 20,
                     " MiB, found a limit of ", request.memory_bytes >> 20,
                     " MiB: lower the context or raise the limit"));
  }
  const std::uint64_t contexts =
      std::clamp<std::uint64_t>(request.memory_bytes / std::max<std::uint64_t>(unit, 1), 1,
                                static_cast<std::uint64_t>(request.limits.max_sequences));
  plan.global_blocks = static_cast<std::int32_t>(contexts * global);
  plan.window_blocks = static_cast<std::int32_t>(contexts * window);
  plan.bytes = contexts * unit;
  return plan;
}

bool StagesAlternate(const Plan& plan) {
  std::set<std::string> workers;
  std::size_t changes = 0;
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    workers.insert(plan.stages[i].worker);
    changes += i > 0 && plan.stages[i].worker != plan.stages[i - 1].worker ? 1 : 0;
  }
  // A pipeline passes each worker once and comes back to the first for the head.
  return changes > workers.size();
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
