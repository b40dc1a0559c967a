#pragma once

#include <string>

namespace tandem::npu {

// Runs every kernel of every package in the folder `kernels` that fits the first NPU against its
// twin on the host, prints a report to send in (versions, shapes, differences, speed), and gives
// the exit code: 0 where all agree.
int Selftest(const std::string& kernels);

}  // namespace tandem::npu
