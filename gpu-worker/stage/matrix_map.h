#pragma once

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"

namespace tandem {

// Whether the matrix kernels can be used: the device has what they need, and a kernel that runs on
// it finds the elements of matrices in the lanes where they expect them.
absl::StatusOr<bool> FragmentsWork(const DeviceContext& context);

}  // namespace tandem
