#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "npu-worker/attention/attention_layout.h"

namespace tandem::npu {

// What the design of attention (kernels/designs/attention.py) and its instructions agree on.
//   MM2S 0 of column i (i < rows of cores): chunks of the kv head of core row i, for all columns
//   MM2S 1 of column j: the queries of that column's cores
//   S2MM 0 of column j: what its cores attended to, joined
// Buffers of the call: 0 keys and values, 1 queries, 2 output.
inline constexpr std::uint32_t kKeysValuesArgument = 0;
inline constexpr std::uint32_t kQueriesArgument = 1;
inline constexpr std::uint32_t kAttendedArgument = 2;

// The instructions for the tokens' ranges, which the queries are packed with, too.
// INVALID_ARGUMENT when a buffer is past the 4 GiB that an address patch reaches.
absl::StatusOr<std::vector<std::uint32_t>> AttentionInstructions(const AttentionLayout& layout,
                                                                 std::span<const KeyRange> ranges);

}  // namespace tandem::npu
