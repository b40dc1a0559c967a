#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/model/step_limits.h"

namespace tandem {

// How many KV blocks a cluster has. Global layers keep every position of a request, sliding-window
// layers only the window.
struct KvPlan {
  std::int32_t context_tokens = 0;
  std::int32_t global_blocks = 0;
  std::int32_t window_blocks = 0;
  std::uint64_t bytes = 0;  // keys and values of all layers
};

struct KvPlanRequest {
  std::int32_t context_tokens = 0;  // wanted; at most the model's max_positions is given
  StepLimits limits;                // max_tokens, max_sequences
  std::uint64_t memory_bytes = 0;   // for the whole cache
  bool memory_is_hard = false;      // else one full context is always granted
  std::int32_t element_bytes = 4;   // of a key or value
};

// As many full contexts as the memory holds, at least one, at most max_sequences. INVALID_ARGUMENT
// when a hard limit does not hold one.
absl::StatusOr<KvPlan> PlanKvCache(const ModelConfig& config, const KvPlanRequest& request);

}  // namespace tandem
