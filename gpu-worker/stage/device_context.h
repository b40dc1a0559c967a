#pragma once

#include "gpu-worker/stage/pipeline_library.h"
#include "gpu-worker/stage/tuning.h"
#include "gpu-worker/vulkan/logical_device.h"

namespace tandem {

// What stages share of their device. The device owns it all and outlives them.
struct DeviceContext {
  vulkan::LogicalDevice& device;
  PipelineLibrary& pipelines;
  const Tuning& tuning;
};

}  // namespace tandem
