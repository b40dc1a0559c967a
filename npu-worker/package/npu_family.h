#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "npu-worker/kernels/tile_shape.h"

namespace tandem::npu {

// The array behind what the kernel driver calls an NPU: "NPU Phoenix", "NPU Strix Halo", or with
// older kernels "RyzenAI-npu1" (Phoenix, Hawk Point), -npu4, -npu5 and -npu6 (Strix, Strix Halo,
// Krackan). UNIMPLEMENTED for another name.
absl::StatusOr<ArrayShape> ArrayOfNpu(std::string_view name);

// "AIE2" or "AIE2P".
std::string GenerationName(const ArrayShape& array);

// FAILED_PRECONDITION where the firmware, as the driver says it ("1.5.5.391"), is older than any
// that was in linux-firmware when its driver came to Linux. What is not a version says nothing: OK.
absl::Status CheckFirmware(const ArrayShape& array, std::string_view name,
                           std::string_view version);

}  // namespace tandem::npu
