#pragma once

#include <vulkan/vulkan.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/device_memory.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/base/fd.h"

namespace tandem::vulkan {

enum class Placement : std::uint8_t {
  kDevice,  // the device's own, not mapped
  // written by the host, read by the device; mapped, coherent, device-local where that exists
  kUpload,
  // written by the host once and copied from; mapped, coherent, in system memory where that exists
  kStaging,
  kReadback,  // written by the device, read by the host; mapped, coherent, cached where that exists
};

// A part of a buffer, as a descriptor sees it.
struct BufferSlice {
  VkBuffer buffer = VK_NULL_HANDLE;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// Owns a VkBuffer (storage and transfers) and the memory behind it. Movable.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Swap(other);
    return *this;
  }
  ~Buffer();

  // `what` names the buffer in errors, here and below.
  static absl::StatusOr<Buffer> Create(const LogicalDevice& device, std::uint64_t bytes,
                                       Placement placement, std::string_view what);
  // The pages at `data` themselves: `data` and `bytes` are multiples of the device's
  // host_pointer_alignment. They stay the caller's and must outlive the buffer. UNIMPLEMENTED
  // without VK_EXT_external_memory_host, NOT_FOUND where the driver would take them only as memory
  // that is not coherent.
  static absl::StatusOr<Buffer> ImportHost(const LogicalDevice& device, void* data,
                                           std::uint64_t bytes, std::string_view what);
  // Takes the memory of a dma-buf. UNIMPLEMENTED without VK_EXT_external_memory_dma_buf or where
  // the driver does not import into storage buffers.
  static absl::StatusOr<Buffer> ImportDmaBuf(const LogicalDevice& device, UniqueFd fd,
                                             std::uint64_t bytes, std::string_view what);
  // Allocates memory, maps it and hands out a dma-buf of it. UNIMPLEMENTED where the driver exports
  // none.
  static absl::StatusOr<Buffer> ExportDmaBuf(const LogicalDevice& device, std::uint64_t bytes,
                                             std::string_view what, UniqueFd* fd);

  VkBuffer handle() const { return buffer_; }
  std::uint64_t bytes() const { return bytes_; }
  std::byte* data() const { return data_; }  // null where it is not mapped
  BufferSlice slice() const { return {buffer_, 0, bytes_}; }

 private:
  void Swap(Buffer& other) noexcept;
  static absl::StatusOr<Buffer> CreateUnbound(const LogicalDevice& device, std::uint64_t bytes,
                                              VkExternalMemoryHandleTypeFlags external,
                                              std::string_view what);
  absl::Status Bind(DeviceMemory memory, std::string_view what);
  VkMemoryRequirements Requirements() const;

  const LogicalDevice* device_ = nullptr;
  VkBuffer buffer_ = VK_NULL_HANDLE;
  DeviceMemory memory_;
  std::uint64_t bytes_ = 0;
  std::byte* data_ = nullptr;
};

}  // namespace tandem::vulkan
