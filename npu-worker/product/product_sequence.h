#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "npu-worker/product/product_layout.h"

namespace tandem::npu {

// What the product's design (kernels/designs/product.py) and its instructions agree on.
//   MM2S 0 of column i (i < rows of cores): the weights of core row i, which all columns get
//   MM2S 1 of column j: the activations of that column's cores, again for each row block
//   S2MM 0 of column j: the sums of its cores, joined
// Buffers of the call: 0 weights, 1 activations, 2 output.
inline constexpr std::uint32_t kWeightsArgument = 0;
inline constexpr std::uint32_t kActivationsArgument = 1;
inline constexpr std::uint32_t kOutputArgument = 2;
inline constexpr std::uint32_t kWeightsChannel = 0;
inline constexpr std::uint32_t kActivationsChannel = 1;
inline constexpr std::uint32_t kOutputChannel = 0;

// The instructions of one product. `parameter_address`: where in a core's memory the design keeps
// its run-time parameter (chunks in a row). INVALID_ARGUMENT when a buffer is past the 4 GiB that
// an address patch reaches.
absl::StatusOr<std::vector<std::uint32_t>> ProductInstructions(const ProductLayout& layout,
                                                               std::uint32_t parameter_address);

}  // namespace tandem::npu
