#pragma once

#include <vulkan/vulkan.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/base/fd.h"

namespace tandem::vulkan {

// Owns one VkDeviceMemory. Movable.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept
      : device_(other.device_), memory_(std::exchange(other.memory_, VK_NULL_HANDLE)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~DeviceMemory();

  // `next` extends VkMemoryAllocateInfo (imports, exports, dedicated buffers). `what` names the
  // memory in errors.
  static absl::StatusOr<DeviceMemory> Allocate(const LogicalDevice& device, std::uint64_t bytes,
                                               std::uint32_t memory_type, const void* next,
                                               std::string_view what);

  // Maps all of it, until it is freed.
  absl::StatusOr<std::byte*> Map() const;
  absl::StatusOr<UniqueFd> ExportFd(VkExternalMemoryHandleTypeFlagBits type) const;
  VkDeviceMemory handle() const { return memory_; }

 private:
  const LogicalDevice* device_ = nullptr;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
};

}  // namespace tandem::vulkan
