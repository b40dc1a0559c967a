#pragma once

#include <span>
#include <vector>

#include "npu-worker/attention/attention_layout.h"

namespace tandem::npu {

// Attention in double over the very numbers in bfloat16 that PackQueries and PackKeysValues give
// the array: slow, for tests and the self-test. Rows without gaps; a token that sees no key gets
// zeros.
std::vector<double> AttentionTwin(const AttentionShape& shape, std::span<const KeyRange> ranges,
                                  const float* queries, const float* keys, const float* values,
                                  float scale);

}  // namespace tandem::npu
