#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "lib/device/device.h"

namespace tandem {

class ProductUnit;

// The CPU as a device: every stage of the model on SIMD instructions and a pool of threads. It is
// chosen by name only and never stands in for a device that is missing.
//
// Products accumulate in float32. With ActivationType::kFloat32 weights are dequantised on the way
// into the product; a token's answer has the same bits in every batch. With kInt8 (int8 and int4
// weights only; bf16 is UNIMPLEMENTED) activations are quantised per group of 32 to absmax / 127,
// groups are summed in integers and combined in one fixed order, so that every instruction set
// gives the same bits for the product. kAuto is kInt8 for matrices with int8 and int4 weights and
// kFloat32 for the others; with both, too, a token's answer has the same bits in every batch.
//
// Weights are used where the loader put them. It imports whatever can be mapped: memfds and
// dma-bufs. It exports dma-bufs where the system makes them (lib/base/dma_buf.h).
struct CpuDeviceOptions {
  int threads = 0;  // 0: one for each CPU this process may run on
  // Computes all matrix products instead of the CPU; product_unit.h.
  ProductUnit* products = nullptr;
};

// INVALID_ARGUMENT for a negative or absurd number of threads. The device must outlive everything
// it made. Any thread may call it, one thread at a time may call a program; the stages of all
// programs run one after another on the device's own thread.
absl::StatusOr<std::unique_ptr<Device>> CreateCpuDevice(const CpuDeviceOptions& options);

}  // namespace tandem
