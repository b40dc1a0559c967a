#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "lib/device/cpu/kernels.h"

namespace tandem {

// What tests of the NPU's kernels compare with.

// Within `relative` of the largest value.
inline void ExpectClose(const std::vector<float>& found, const std::vector<double>& expected,
                        double relative) {
  ASSERT_EQ(found.size(), expected.size());
  double largest = 0;
  for (const double e : expected) largest = std::max(largest, std::abs(e));
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], relative * largest) << i;
}

inline std::vector<double> Doubles(const std::vector<float>& v) { return {v.begin(), v.end()}; }

// The CPU device's attention of a query of `dim`, scaled already, over the keys up to number
// `last`: float32 rows in blocks of kKvBlockTokens, all of them there.
inline std::vector<float> AttendOnCpu(const float* query, const float* keys, const float* values,
                                      int dim, int last) {
  std::vector<float> out(static_cast<std::size_t>(dim));
  std::vector<std::int32_t> table(static_cast<std::size_t>(last / kKvBlockTokens + 1));
  std::iota(table.begin(), table.end(), 0);
  AttendJob job;
  job.query = query;
  job.out = out.data();
  job.keys = reinterpret_cast<const std::byte*>(keys);
  job.values = reinterpret_cast<const std::byte*>(values);
  job.block_bytes = KvHeadBytes(dim, KvType::kFloat32);
  job.blocks = table.data();
  job.last_position = last;
  job.head_dim = dim;
  Attend(job);
  return out;
}

}  // namespace tandem
