#include "gpu-worker/vulkan/result.h"

#include "lib/base/strings.h"

namespace tandem::vulkan {

std::string_view VkResultName(VkResult result) {
#define TANDEM_VK_RESULT(name) \
  case name:                   \
    return #name
  switch (result) {
    TANDEM_VK_RESULT(VK_SUCCESS);
    TANDEM_VK_RESULT(VK_NOT_READY);
    TANDEM_VK_RESULT(VK_TIMEOUT);
    TANDEM_VK_RESULT(VK_EVENT_SET);
    TANDEM_VK_RESULT(VK_EVENT_RESET);
    TANDEM_VK_RESULT(VK_INCOMPLETE);
    TANDEM_VK_RESULT(VK_ERROR_OUT_OF_HOST_MEMORY);
    TANDEM_VK_RESULT(VK_ERROR_OUT_OF_DEVICE_MEMORY);
    TANDEM_VK_RESULT(VK_ERROR_INITIALIZATION_FAILED);
    TANDEM_VK_RESULT(VK_ERROR_DEVICE_LOST);
    TANDEM_VK_RESULT(VK_ERROR_MEMORY_MAP_FAILED);
    TANDEM_VK_RESULT(VK_ERROR_LAYER_NOT_PRESENT);
    TANDEM_VK_RESULT(VK_ERROR_EXTENSION_NOT_PRESENT);
    TANDEM_VK_RESULT(VK_ERROR_FEATURE_NOT_PRESENT);
    TANDEM_VK_RESULT(VK_ERROR_INCOMPATIBLE_DRIVER);
    TANDEM_VK_RESULT(VK_ERROR_TOO_MANY_OBJECTS);
    TANDEM_VK_RESULT(VK_ERROR_FRAGMENTED_POOL);
    TANDEM_VK_RESULT(VK_ERROR_OUT_OF_POOL_MEMORY);
    TANDEM_VK_RESULT(VK_ERROR_INVALID_EXTERNAL_HANDLE);
    TANDEM_VK_RESULT(VK_ERROR_FRAGMENTATION);
    default:
      return "VK_ERROR_UNKNOWN";
  }
#undef TANDEM_VK_RESULT
}

absl::Status ToStatus(VkResult result, std::string_view what) {
  if (result == VK_SUCCESS) return absl::OkStatus();
  const std::string text =
      Cat(what, ": ", VkResultName(result), " (", static_cast<int>(result), ")");
  switch (result) {
    case VK_ERROR_DEVICE_LOST:
      return absl::UnavailableError(Cat("device lost: ", text));
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_TOO_MANY_OBJECTS:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
      return absl::ResourceExhaustedError(text);
    case VK_ERROR_LAYER_NOT_PRESENT:
    case VK_ERROR_EXTENSION_NOT_PRESENT:
    case VK_ERROR_FEATURE_NOT_PRESENT:
    case VK_ERROR_INCOMPATIBLE_DRIVER:
      return absl::UnimplementedError(text);
    default:
      return absl::InternalError(text);
  }
}

}  // namespace tandem::vulkan
