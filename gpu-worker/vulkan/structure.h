#pragma once

#include <vulkan/vulkan.h>

namespace tandem::vulkan {

// A Vulkan structure that says what it is and is zero otherwise.
template <typename T>
T Structure(VkStructureType type) {
  T structure{};
  structure.sType = type;
  return structure;
}

}  // namespace tandem::vulkan
