#include "gpu-worker/vulkan/buffer.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {
namespace {

struct MemoryWish {
  VkMemoryPropertyFlags required;
  VkMemoryPropertyFlags preferred;
  VkMemoryPropertyFlags unwanted;
};

MemoryWish WishOf(Placement placement) {
  constexpr VkMemoryPropertyFlags kHost =
      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  switch (placement) {
    case Placement::kDevice:
      return {0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0};
    case Placement::kUpload:
      return {kHost, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0};
    case Placement::kStaging:
      return {kHost, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT};
    case Placement::kReadback:
      return {kHost, VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 0};
  }
  TANDEM_CHECK(false);
}

absl::Status NoDmaBuf(const LogicalDevice& device, std::string_view verb) {
  return absl::UnimplementedError(
      Cat("device \"", device.physical().name, "\" cannot ", verb, " storage buffers as dma-bufs"));
}

}  // namespace

void Buffer::Swap(Buffer& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(buffer_, other.buffer_);
  std::swap(bytes_, other.bytes_);
  std::swap(data_, other.data_);
  std::swap(memory_, other.memory_);
}

Buffer::~Buffer() {
  if (buffer_ != VK_NULL_HANDLE) vkDestroyBuffer(device_->handle(), buffer_, nullptr);
}

absl::StatusOr<Buffer> Buffer::CreateUnbound(const LogicalDevice& device, std::uint64_t bytes,
                                             VkExternalMemoryHandleTypeFlags external,
                                             std::string_view what) {
  auto external_info = Structure<VkExternalMemoryBufferCreateInfo>(
      VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO);
  external_info.handleTypes = external;
  auto info = Structure<VkBufferCreateInfo>(VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO);
  if (external != 0) info.pNext = &external_info;
  info.size = bytes;
  info.usage = kBufferUsage;
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  const PhysicalDevice& physical = device.physical();
  const std::array families = {physical.compute_family, physical.transfer_family.value_or(0)};
  if (external == 0 && physical.transfer_family.has_value()) {
    info.sharingMode = VK_SHARING_MODE_CONCURRENT;
    info.queueFamilyIndexCount = static_cast<std::uint32_t>(families.size());
    info.pQueueFamilyIndices = families.data();
  }
  Buffer buffer;
  buffer.device_ = &device;
  buffer.bytes_ = bytes;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreateBuffer(device.handle(), &info, nullptr, &buffer.buffer_),
                                  Cat(what, ": a buffer of ", bytes, " bytes")));
  return buffer;
}

VkMemoryRequirements Buffer::Requirements() const {
  VkMemoryRequirements requirements{};
  vkGetBufferMemoryRequirements(device_->handle(), buffer_, &requirements);
  return requirements;
}

absl::Status Buffer::Bind(DeviceMemory memory, std::string_view what) {
  memory_ = std::move(memory);
  return ToStatus(vkBindBufferMemory(device_->handle(), buffer_, memory_.handle(), 0),
                  Cat(what, ": binding memory"));
}

absl::StatusOr<Buffer> Buffer::Create(const LogicalDevice& device, std::uint64_t bytes,
                                      Placement placement, std::string_view what) {
  TANDEM_ASSIGN_OR_RETURN(Buffer buffer, CreateUnbound(device, bytes, 0, what));
  const VkMemoryRequirements requirements = buffer.Requirements();
  const MemoryWish wish = WishOf(placement);
  TANDEM_ASSIGN_OR_RETURN(
      const std::uint32_t type,
      device.MemoryType(requirements.memoryTypeBits, wish.required, wish.preferred, wish.unwanted));
  TANDEM_ASSIGN_OR_RETURN(DeviceMemory memory,
                          DeviceMemory::Allocate(device, requirements.size, type, nullptr, what));
  TANDEM_RETURN_IF_ERROR(buffer.Bind(std::move(memory), what));
  if (placement != Placement::kDevice) {
    TANDEM_ASSIGN_OR_RETURN(buffer.data_, buffer.memory_.Map());
  }
  return buffer;
}

absl::StatusOr<Buffer> Buffer::ImportHost(const LogicalDevice& device, void* data,
                                          std::uint64_t bytes, std::string_view what) {
  const std::uint64_t alignment = device.physical().host_pointer_alignment;
  if (alignment == 0) {
    return absl::UnimplementedError(
        Cat(what, ": device \"", device.physical().name, "\" has no VK_EXT_external_memory_host"));
  }
  if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0 || bytes % alignment != 0) {
    return absl::InvalidArgumentError(
        Cat(what, ": memory at ", reinterpret_cast<std::uintptr_t>(data), " of ", bytes,
            " bytes cannot be imported: the device wants multiples of ", alignment));
  }
  constexpr auto kHandle = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
  auto pointer = Structure<VkMemoryHostPointerPropertiesEXT>(
      VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT);
  TANDEM_RETURN_IF_ERROR(
      ToStatus(device.get_host_pointer_properties(device.handle(), kHandle, data, &pointer),
               Cat(what, ": asking whether host memory can be imported")));
  TANDEM_ASSIGN_OR_RETURN(Buffer buffer, CreateUnbound(device, bytes, kHandle, what));
  const std::uint32_t allowed = pointer.memoryTypeBits & buffer.Requirements().memoryTypeBits;
  TANDEM_ASSIGN_OR_RETURN(
      const std::uint32_t type,
      // The other end of an edge writes and reads these pages without asking the driver.
      device.MemoryType(allowed, VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                        VK_MEMORY_PROPERTY_HOST_CACHED_BIT));
  auto import = Structure<VkImportMemoryHostPointerInfoEXT>(
      VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT);
  import.handleType = kHandle;
  import.pHostPointer = data;
  TANDEM_ASSIGN_OR_RETURN(
      DeviceMemory memory,
      DeviceMemory::Allocate(device, bytes, type, &import, Cat(what, ": importing host memory")));
  TANDEM_RETURN_IF_ERROR(buffer.Bind(std::move(memory), what));
  return buffer;
}

absl::StatusOr<Buffer> Buffer::ImportDmaBuf(const LogicalDevice& device, UniqueFd fd,
                                            std::uint64_t bytes, std::string_view what) {
  if (!device.physical().dma_buf_import) return NoDmaBuf(device, "import");
  constexpr auto kHandle = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
  auto properties = Structure<VkMemoryFdPropertiesKHR>(VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR);
  TANDEM_RETURN_IF_ERROR(
      ToStatus(device.get_fd_properties(device.handle(), kHandle, fd.get(), &properties),
               Cat(what, ": asking whether the dma-buf can be imported")));
  TANDEM_ASSIGN_OR_RETURN(Buffer buffer, CreateUnbound(device, bytes, kHandle, what));
  const VkMemoryRequirements requirements = buffer.Requirements();
  TANDEM_ASSIGN_OR_RETURN(
      const std::uint32_t type,
      device.MemoryType(properties.memoryTypeBits & requirements.memoryTypeBits, 0, 0));
  auto dedicated =
      Structure<VkMemoryDedicatedAllocateInfo>(VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO);
  dedicated.buffer = buffer.buffer_;
  auto import = Structure<VkImportMemoryFdInfoKHR>(VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR);
  import.pNext = &dedicated;
  import.handleType = kHandle;
  import.fd = fd.get();
  TANDEM_ASSIGN_OR_RETURN(DeviceMemory memory,
                          DeviceMemory::Allocate(device, requirements.size, type, &import,
                                                 Cat(what, ": importing a dma-buf")));
  fd.Release();  // the driver's now
  TANDEM_RETURN_IF_ERROR(buffer.Bind(std::move(memory), what));
  return buffer;
}

absl::StatusOr<Buffer> Buffer::ExportDmaBuf(const LogicalDevice& device, std::uint64_t bytes,
                                            std::string_view what, UniqueFd* fd) {
  if (!device.physical().dma_buf_export) return NoDmaBuf(device, "export");
  constexpr auto kHandle = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
  TANDEM_ASSIGN_OR_RETURN(Buffer buffer, CreateUnbound(device, bytes, kHandle, what));
  const VkMemoryRequirements requirements = buffer.Requirements();
  TANDEM_ASSIGN_OR_RETURN(
      const std::uint32_t type,
      // Another process maps it, and this one where the rows go on over gRPC.
      device.MemoryType(requirements.memoryTypeBits,
                        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                        VK_MEMORY_PROPERTY_HOST_CACHED_BIT));
  auto dedicated =
      Structure<VkMemoryDedicatedAllocateInfo>(VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO);
  dedicated.buffer = buffer.buffer_;
  auto exported =
      Structure<VkExportMemoryAllocateInfo>(VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO);
  exported.pNext = &dedicated;
  exported.handleTypes = kHandle;
  TANDEM_ASSIGN_OR_RETURN(DeviceMemory memory,
                          DeviceMemory::Allocate(device, requirements.size, type, &exported, what));
  TANDEM_ASSIGN_OR_RETURN(*fd, memory.ExportFd(kHandle));
  TANDEM_RETURN_IF_ERROR(buffer.Bind(std::move(memory), what));
  TANDEM_ASSIGN_OR_RETURN(buffer.data_, buffer.memory_.Map());
  return buffer;
}

}  // namespace tandem::vulkan
