#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lib/device/device.h"

namespace tandem::npu {

// An NPU as a device. Its declared design: every matrix product runs on the NPU, with int8
// activations and int8 or int4 weights; embedding, norms, RoPE, attention over the KV cache, GeGLU,
// quantisation and sampling run on the host, on the CPU device's code. Other activations and
// weights are UNIMPLEMENTED: no product ever runs on the host. Residuals are touched by the host's
// part only: host memory, or, for a GPU that imports it, memory of the NPU's driver exported as
// dma-buf, synchronised around every stage.
struct XrtDeviceOptions {
  // Folder of kernel packages; NpuProductOptions.
  std::string kernels;
  int threads = 0;  // of the host's part; 0: one for each CPU
  // For weights in the array's order; 0: half of the machine's memory.
  std::uint64_t weights_budget = 0;
};

// NOT_FOUND: no NPU. FAILED_PRECONDITION: its firmware is too old. Errors of XRT and of the kernels
// come as they are.
absl::StatusOr<std::unique_ptr<Device>> CreateXrtDevice(const XrtDeviceOptions& options);

// Half of the machine's memory, in bytes.
std::uint64_t DefaultWeightsBudget();

// What computes which part of a stage, one line each, for people.
std::string XrtDesign();

}  // namespace tandem::npu
