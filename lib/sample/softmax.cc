#include "lib/sample/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

// Passes over the vocabulary are compiled for several generations of x86 processors, and the loader
// picks when the program starts. The thread sanitizer's runtime is not ready at that time; Clang
// builds only the fuzz targets.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define TANDEM_FOR_EVERY_X86 [[gnu::target_clones("default", "avx2", "avx512f")]]
#else
#define TANDEM_FOR_EVERY_X86
#endif

namespace tandem {
namespace {

// float sums stay this short; blocks add up in double
constexpr std::size_t kBlock = kSoftmaxBlock;
constexpr std::size_t kLanes = 16;  // independent results, so that the loops can be vectorised

TANDEM_FOR_EVERY_X86
float BlockMax(const float* values, std::size_t count) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) {
      lanes[j] = values[i + j] > lanes[j] ? values[i + j] : lanes[j];
    }
  }
  for (; i < count; ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

// Whether any value is NaN.
TANDEM_FOR_EVERY_X86
bool BlockHasNan(const float* values, std::size_t count) {
  unsigned found = 0;
  for (std::size_t i = 0; i < count; ++i) found |= values[i] != values[i] ? 1u : 0u;
  return found != 0;
}

TANDEM_FOR_EVERY_X86
float BlockExpSum(const float* values, std::size_t count, float max) {
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

TANDEM_FOR_EVERY_X86
void ScaleBelow(std::span<float> values, float max, float temperature) {
  for (float& value : values) value = (value - max) / temperature;
}

TANDEM_FOR_EVERY_X86
double KeptExpSum(std::span<const float> values, float cut, std::int32_t last_equal) {
  float lanes[kLanes] = {};
  const auto count = static_cast<std::int32_t>(values.size());
  const auto lane_count = static_cast<std::int32_t>(kLanes);
  const auto add = [&](std::int32_t i, std::int32_t lane) {
    const float value = values[static_cast<std::size_t>(i)];
    const bool keep = (value > cut) | ((value == cut) & (i <= last_equal));
    const float weight = ExpNegative(value);
    lanes[lane] += keep ? weight : 0.0f;
  };
  std::int32_t i = 0;
  for (; i + lane_count <= count; i += lane_count) {
    for (std::int32_t j = 0; j < lane_count; ++j) add(i + j, j);
  }
  for (; i < count; ++i) add(i, 0);
  double sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace tandem
