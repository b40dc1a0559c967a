#include "gateway/dispatch/kv_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"

namespace tandem {

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

}  // namespace tandem
