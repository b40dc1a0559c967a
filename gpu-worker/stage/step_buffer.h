#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/device/stage.h"

namespace tandem {

// The host-visible buffer that carries a step's parameters to the kernels; laid out once, for the
// limits. See kernels/common/step_params.h.
class StepBuffer {
 public:
  StepBuffer() = default;
  static absl::StatusOr<StepBuffer> Create(const vulkan::LogicalDevice& device,
                                           const StepLimits& limits);
  // The step is valid for the limits and the device is not reading. Allocates nothing.
  void Write(const Step& step, std::uint32_t input_base, std::uint32_t output_base);
  vulkan::BufferSlice slice() const { return buffer_.slice(); }

 private:
  kernels::StepHeader header_{};
  vulkan::Buffer buffer_;
};

}  // namespace tandem
