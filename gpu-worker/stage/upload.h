#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"

namespace tandem {

// Copies host bytes into a buffer of the device's own, through two staging halves in turn, and
// waits until they are there. For weights at start: it allocates and records.
absl::Status Upload(vulkan::LogicalDevice& device, std::span<const std::byte> bytes,
                    const vulkan::Buffer& to);

}  // namespace tandem
