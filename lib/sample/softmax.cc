#include "lib/sample/softmax.h"

#include <cmath>
#include <limits>

namespace tandem {
namespace {

constexpr std::size_t kBlock = 1024;  // float sums stay this short; blocks are added up in double

float BlockMax(const float* values, std::size_t count) {
  float max = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < count; ++i) max = values[i] > max ? values[i] : max;
  return max;
}

// Whether any value is NaN.
bool BlockHasNan(const float* values, std::size_t count) {
  unsigned found = 0;
  for (std::size_t i = 0; i < count; ++i) found |= values[i] != values[i] ? 1u : 0u;
  return found != 0;
}

float BlockExpSum(const float* values, std::size_t count, float max) {
  constexpr std::size_t kLanes = 16;
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += ExpNegative(values[i + j] - max);
  }
  float sum = 0;
  for (; i < count; ++i) sum += ExpNegative(values[i] - max);
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

SoftmaxSummary FindBest(std::span<const float> values) {
  SoftmaxSummary summary;
  summary.max = -std::numeric_limits<float>::infinity();
  std::size_t best_block = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    if (BlockHasNan(values.data() + begin, count)) return summary;
    const float max = BlockMax(values.data() + begin, count);
    if (max > summary.max) {
      summary.max = max;
      best_block = begin;
    }
  }
  if (!std::isfinite(summary.max)) return summary;
  while (values[best_block] != summary.max) ++best_block;
  summary.best = static_cast<std::int32_t>(best_block);
  summary.finite = true;
  return summary;
}

SoftmaxSummary Summarize(std::span<const float> values) {
  SoftmaxSummary summary = FindBest(values);
  if (!summary.finite) return summary;
  double sum = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    sum += BlockExpSum(values.data() + begin, std::min(kBlock, values.size() - begin), summary.max);
  }
  summary.log_sum = static_cast<double>(summary.max) + std::log(sum);
  return summary;
}

void ScaleBelow(std::span<float> values, float max, float temperature) {
  for (float& value : values) value = (value - max) / temperature;
}

}  // namespace tandem
