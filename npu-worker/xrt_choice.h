#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "lib/device/device.h"

namespace tandem {

// What --device=xrt means in this build: xrt_choice.cc where XRT was found, xrt_choice_none.cc
// elsewhere.

// UNIMPLEMENTED and what was found when this program was built; or the errors of XRT and of the
// kernels. The environment names the folder of kernel packages: TANDEM_NPU_KERNELS.
absl::StatusOr<std::unique_ptr<Device>> CreateXrt(int threads);
// Runs every kernel against its twin and prints a report; gives the exit code.
int SelftestXrt();
// Prints what XRT sees, a line for each NPU, or why there is none.
void ListXrt();

}  // namespace tandem
