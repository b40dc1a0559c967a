#pragma once

#include <vulkan/vulkan.h>

#include <string_view>

#include "absl/status/status.h"

namespace tandem::vulkan {

std::string_view VkResultName(VkResult result);  // "VK_ERROR_DEVICE_LOST"

// OK for VK_SUCCESS. Else "<what>: VK_ERROR_...": UNAVAILABLE when the device is lost,
// RESOURCE_EXHAUSTED when memory or objects ran out, UNIMPLEMENTED when a feature, layer or
// extension is missing, INTERNAL for the rest.
absl::Status ToStatus(VkResult result, std::string_view what);

}  // namespace tandem::vulkan
