#pragma once

#include <vulkan/vulkan.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/pipeline.h"

namespace tandem::vulkan {

class CommandBuffer;

// Owns a command pool and the buffers taken from it (freed with it). One thread at a time. Movable.
class CommandPool {
 public:
  CommandPool() = default;
  CommandPool(CommandPool&& other) noexcept
      : device_(other.device_), pool_(std::exchange(other.pool_, VK_NULL_HANDLE)) {}
  CommandPool& operator=(CommandPool&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(pool_, other.pool_);
    return *this;
  }
  ~CommandPool();
  static absl::StatusOr<CommandPool> Create(const LogicalDevice& device);
  // Begins a command buffer that can be submitted again and again, also while it is under way. It
  // starts behind all earlier work of the queue.
  absl::StatusOr<CommandBuffer> Begin();

 private:
  const LogicalDevice* device_ = nullptr;
  VkCommandPool pool_ = VK_NULL_HANDLE;
};

struct Groups {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
};

// Records; belongs to its pool. Begin -> commands -> Finish.
class CommandBuffer {
 public:
  void Dispatch(const Pipeline& pipeline, VkDescriptorSet set, std::span<const std::byte> push,
                Groups groups);
  // What came before is done, and its writes are visible to what follows.
  void Barrier();
  void Copy(const BufferSlice& from, const BufferSlice& to);
  // Takes memory over from, or hands it to, another device or process (dma-buf).
  void AcquireExternal(VkBuffer buffer);
  void ReleaseExternal(VkBuffer buffer);
  // Makes writes visible to the host and ends the recording.
  absl::Status Finish();

  VkCommandBuffer handle() const { return commands_; }

 private:
  friend class CommandPool;
  CommandBuffer(const LogicalDevice* device, VkCommandBuffer commands)
      : device_(device), commands_(commands) {}
  void Memory(VkPipelineStageFlags from, VkAccessFlags from_access, VkPipelineStageFlags to,
              VkAccessFlags to_access);
  void Transfer(VkBuffer buffer, bool acquire);

  const LogicalDevice* device_;
  VkCommandBuffer commands_;
};

}  // namespace tandem::vulkan
