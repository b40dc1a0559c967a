#include "gateway/dispatch/step_record.h"

#include <algorithm>

namespace tandem {

const std::vector<StagePlacement>& RouteOf(const Plan& plan, bool prefill) {
  const std::int32_t route = prefill && plan.routes.size() > 1 ? kPrefillRoute : kDecodeRoute;
  return plan.routes[static_cast<std::size_t>(route)].stages;
}

StepShape ShapeOf(const ClusterPlan& plan, const ClusterOptions& options, const CostPoint& point,
                  bool samples) {
  const std::int32_t most = point.tokens / std::max(1, options.min_micro_batch_tokens);
  const bool prefills = point.tokens > 1 && plan.prefill_micro_batches > 0;
  const auto members = std::count(plan.members.begin(), plan.members.end(), std::uint8_t{1});
  return {point, samples,
          std::clamp(most, 1, prefills ? plan.prefill_micro_batches : plan.micro_batches),
          members > 1};
}

void StepRecord::Add(std::uint64_t generation, const Coordinator::StepDone& step) {
  if (generation != generation_) {
    generation_ = generation;
    for (Ring& ring : rings_) ring.count = 0;
  }
  if (step.sequences != 1) return;
  const bool prefill = step.prefill_tokens > 0;
  const std::int32_t tokens = prefill ? step.prefill_tokens : step.decode_tokens;
  if (tokens < 1) return;
  Ring& ring = rings_[prefill ? 1 : 0];
  ring.samples[ring.count++ % kKept] = {
      {tokens, step.context}, step.samples, absl::ToDoubleSeconds(step.seconds)};
}

std::vector<StepComparison> StepRecord::Compare(const StepModel* model, const ClusterPlan& plan,
                                                const ClusterOptions& options) const {
  std::vector<StepComparison> comparisons;
  for (const bool prefill : {false, true}) {
    const Ring& ring = rings_[prefill ? 1 : 0];
    std::vector<Sample> samples(
        ring.samples.begin(),
        ring.samples.begin() + static_cast<std::ptrdiff_t>(std::min(ring.count, kKept)));
    if (samples.empty()) continue;
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
    std::nth_element(samples.begin(), middle, samples.end(), [](const Sample& a, const Sample& b) {
      return a.seconds / a.point.tokens < b.seconds / b.point.tokens;
    });
    StepComparison comparison{prefill, ring.count, middle->point.tokens, middle->seconds, 0};
    if (model != nullptr) {
      const absl::StatusOr<StepPrediction> predicted = model->Predict(
          RouteOf(plan.plan, prefill), ShapeOf(plan, options, middle->point, middle->samples));
      if (predicted.ok()) comparison.predicted_seconds = predicted->seconds;
    }
    comparisons.push_back(comparison);
  }
  return comparisons;
}

}  // namespace tandem
