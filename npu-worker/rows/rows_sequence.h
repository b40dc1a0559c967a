#pragma once

#include <cstdint>
#include <vector>

#include "npu-worker/rows/rows_layout.h"

namespace tandem::npu {

// What the rows' design (kernels/designs/rows.py) and its instructions agree on.
//   MM2S 0 of column j: its cores' pairs, the header first; S2MM 0: what they give, joined
// Buffers of the call: 0 pairs, 1 output.
inline constexpr std::uint32_t kRowPairsArgument = 0;
inline constexpr std::uint32_t kRowsOutArgument = 1;

std::vector<std::uint32_t> RowsInstructions(const RowsLayout& layout);

}  // namespace tandem::npu
