#include "npu-worker/attention/attention_twin.h"

#include <algorithm>
#include <cmath>

#include "lib/base/numeric.h"

namespace tandem::npu {
namespace {

double Rounded(float v) { return Bf16ToFloat(FloatToBf16(v)); }

// One query over the keys of its range; rows of keys and values `stride` apart.
void AttendOne(const float* query, const KeyRange& range, const float* keys, const float* values,
               std::int64_t stride, std::int64_t head_dim, float scale, double* out) {
  std::vector<double> weights;
  for (std::int64_t k = range.first; k < range.end; ++k) {
    double dot = 0;
    for (std::int64_t d = 0; d < head_dim; ++d)
      dot += Rounded(query[d] * scale) * Rounded(keys[k * stride + d]);
    weights.push_back(dot);
  }
  if (weights.empty()) return;
  const double best = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& w : weights) total += w = std::exp2(w - best);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float* value = values + (range.first + static_cast<std::int64_t>(i)) * stride;
    for (std::int64_t d = 0; d < head_dim; ++d) out[d] += weights[i] / total * Rounded(value[d]);
  }
}

}  // namespace

std::vector<double> AttentionTwin(const AttentionShape& shape, std::span<const KeyRange> ranges,
                                  const float* queries, const float* keys, const float* values,
                                  float scale) {
  const std::int64_t query_stride = shape.heads * shape.head_dim;
  const std::int64_t key_stride = shape.kv_heads * shape.head_dim;
  std::vector<double> out(static_cast<std::size_t>(shape.tokens * query_stride));
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t at = t * query_stride + h * shape.head_dim;
      const std::int64_t kv = h / (shape.heads / shape.kv_heads) * shape.head_dim;
      AttendOne(queries + at, ranges[static_cast<std::size_t>(t)], keys + kv, values + kv,
                key_stride, shape.head_dim, scale * kLog2E, out.data() + at);
    }
  }
  return out;
}

}  // namespace tandem::npu
