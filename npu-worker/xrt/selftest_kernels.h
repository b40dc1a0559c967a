#pragma once

#include <string>

#include "absl/status/status.h"
#include "npu-worker/xrt/xrt_npu.h"

namespace tandem::npu {

// Largest difference by the largest value.
double Difference(const std::vector<float>& found, const std::vector<double>& expected);

// Attention and what works row by row, from their packages in the folder `kernels`, on the NPU,
// against their twins on the host: prints a line for each case. Where a package is not there, a
// line says that its kernels did not run. `agrees` turns false where one differs.
absl::Status SelftestKernels(const NpuInfo& npu, const std::string& kernels, bool* agrees);

}  // namespace tandem::npu
