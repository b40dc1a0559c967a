#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lib/device/device.h"

namespace tandem {

// What --device=xrt means in this build: xrt_choice.cc where XRT was found, xrt_choice_none.cc
// elsewhere.

// UNIMPLEMENTED and what was found when this program was built; or the errors of XRT and of the
// kernels. `kernels` is the folder of kernel packages (--npu_kernels).
absl::StatusOr<std::unique_ptr<Device>> CreateXrt(const std::string& kernels, int threads);
// Runs every kernel against its twin and prints a report; gives the exit code.
int SelftestXrt(const std::string& kernels);
// Prints what XRT sees, a line for each NPU, or why there is none.
void ListXrt();

}  // namespace tandem
