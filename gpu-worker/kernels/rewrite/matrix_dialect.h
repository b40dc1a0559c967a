#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::kernels {

// Specialisation ids by which kernels tell what a matrix type is for; the NV dialect has no word
// for it. Rows and columns of A, of B, and of accumulators.
inline constexpr std::uint32_t kRowsOfA = 100;
inline constexpr std::uint32_t kColumnsOfA = 101;
inline constexpr std::uint32_t kRowsOfB = 102;
inline constexpr std::uint32_t kColumnsOfB = 103;
inline constexpr std::uint32_t kRowsOfC = 104;
inline constexpr std::uint32_t kColumnsOfC = 105;

// A SPIR-V module that uses SPV_NV_cooperative_matrix, as one that uses SPV_KHR_cooperative_matrix:
// Debian 12's glslc writes only the former, drivers take the latter. INVALID_ARGUMENT says what is
// wrong with the module: no SPIR-V, an instruction that ends behind the module, or a matrix type
// whose dimensions are not the specialisation constants above.
absl::StatusOr<std::vector<std::uint32_t>> ToKhrMatrices(std::span<const std::uint32_t> spirv);

}  // namespace tandem::kernels
