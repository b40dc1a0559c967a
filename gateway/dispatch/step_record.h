#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gateway/dispatch/auto_plan.h"
#include "gateway/dispatch/cluster_plan.h"
#include "gateway/dispatch/coordinator.h"
#include "gateway/dispatch/step_model.h"

namespace tandem {

// The last steps of one request at a time, to be compared with what was predicted for them. Adding
// one allocates nothing. Not thread-safe.
class StepRecord {
 public:
  // One of another generation than those before begins anew: the plan may be another one.
  void Add(std::uint64_t generation, const Coordinator::StepDone& step);
  // Of decode and of prefill, where there were any. `model` may be null.
  std::vector<StepComparison> Compare(const StepModel* model, const ClusterPlan& plan,
                                      const ClusterOptions& options) const;

 private:
  static constexpr std::size_t kKept = 64;
  struct Sample {
    CostPoint point;
    bool samples = false;
    double seconds = 0;
  };
  struct Ring {
    std::array<Sample, kKept> samples;
    std::size_t count = 0;
  };

  std::uint64_t generation_ = 0;
  // Of decode, of prefill.
  std::array<Ring, 2> rings_;
};

// The stages that a step takes, and as how many micro-batches.
const std::vector<StagePlacement>& RouteOf(const Plan& plan, bool prefill);
StepShape ShapeOf(const ClusterPlan& plan, const ClusterOptions& options, const CostPoint& point,
                  bool samples);

}  // namespace tandem
