#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/dispatch/cluster.h"
#include "lib/model/config.h"
#include "lib/model/plan.h"

namespace tandem {

// A plan as the gateway carries it out; every generation of the cluster has one. Never changed once
// it is made.
struct ClusterPlan {
  // As it was asked for: "layers:3,5".
  std::string name;
  Plan plan;
  // For each worker of the cluster: 1 where it has a part, else 0.
  std::vector<std::uint8_t> members;
  // Index of the worker that samples.
  std::size_t head = 0;
  // All that the plan needs.
  std::vector<std::string> regions;
  // Most of a step; where prompts take a route of their own: of one that decodes, and of one that
  // prefills (else 0).
  std::int32_t micro_batches = 1;
  std::int32_t prefill_micro_batches = 0;

  std::int32_t most_micro_batches() const { return std::max(micro_batches, prefill_micro_batches); }
};
using SharedPlan = std::shared_ptr<const ClusterPlan>;

// `micro_batches`: as ClusterOptions has it. INVALID_ARGUMENT names what is wrong with the name, or
// the worker that is missing.
absl::StatusOr<SharedPlan> MakeClusterPlan(std::string_view name, const ModelConfig& config,
                                           const std::vector<ClusterWorker>& workers,
                                           std::int32_t micro_batches);

// Whether a step of the route passes back and forth between workers, so that two of them can
// compute at once when it is cut into micro-batches.
bool StagesAlternate(const PlanRoute& route);

}  // namespace tandem
