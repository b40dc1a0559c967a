#include "gpu-worker/vulkan/device_memory.h"

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {

DeviceMemory::~DeviceMemory() {
  if (memory_ != VK_NULL_HANDLE) vkFreeMemory(device_->handle(), memory_, nullptr);
}

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(const LogicalDevice& device,
                                                    std::uint64_t bytes, std::uint32_t memory_type,
                                                    const void* next, std::string_view what) {
  if (bytes > device.physical().max_allocation_bytes) {
    return absl::ResourceExhaustedError(Cat(what, ": ", bytes,
                                            " bytes in one piece, the device allows ",
                                            device.physical().max_allocation_bytes));
  }
  auto info = Structure<VkMemoryAllocateInfo>(VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO);
  info.pNext = next;
  info.allocationSize = bytes;
  info.memoryTypeIndex = memory_type;
  DeviceMemory memory;
  memory.device_ = &device;
  device.counters().allocations.fetch_add(1, std::memory_order_relaxed);
  const VkResult result = vkAllocateMemory(device.handle(), &info, nullptr, &memory.memory_);
  if (result == VK_SUCCESS) return memory;
  return ToStatus(result, Cat(what, ": ", bytes, " bytes of device memory",
                              device.physical().HeapText(memory_type, bytes)));
}

absl::StatusOr<std::byte*> DeviceMemory::Map() const {
  void* data = nullptr;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkMapMemory(device_->handle(), memory_, 0, VK_WHOLE_SIZE, 0, &data),
               "mapping device memory"));
  return static_cast<std::byte*>(data);
}

absl::StatusOr<UniqueFd> DeviceMemory::ExportFd(VkExternalMemoryHandleTypeFlagBits type) const {
  auto info = Structure<VkMemoryGetFdInfoKHR>(VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR);
  info.memory = memory_;
  info.handleType = type;
  int fd = -1;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(device_->get_fd(device_->handle(), &info, &fd), "exporting device memory"));
  return UniqueFd(fd);
}

}  // namespace tandem::vulkan
