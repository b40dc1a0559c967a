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
#include "gpu-worker/vulkan/timestamps.h"

namespace tandem::vulkan {

class CommandBuffer;

// Owns a command pool and the buffers taken from it (freed with it). One thread at a time. Movable.
class CommandPool {
 public:
  CommandPool() = default;
  CommandPool(CommandPool&& other) noexcept
      : device_(other.device_),
        queue_(other.queue_),
        pool_(std::exchange(other.pool_, VK_NULL_HANDLE)) {}
  CommandPool& operator=(CommandPool&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(queue_, other.queue_);
    std::swap(pool_, other.pool_);
    return *this;
  }
  ~CommandPool();
  // `queue`: the one that its buffers are submitted to.
  static absl::StatusOr<CommandPool> Create(const LogicalDevice& device,
                                            Queue queue = Queue::kCompute);
  // Begins a command buffer that can be submitted again and again, also while it is under way. It
  // starts behind all earlier work of the queue.
  absl::StatusOr<CommandBuffer> Begin();
  Queue queue() const { return queue_; }

 private:
  const LogicalDevice* device_ = nullptr;
  Queue queue_ = Queue::kCompute;
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
  // The dispatches before are done, and their writes are visible to the dispatches behind.
  void Barrier();
  // Query `index` of the pool gets the time at which all that came before is done. It must have
  // been reset in the same recording.
  void ResetTimestamps(const Timestamps& timestamps, std::uint32_t first, std::uint32_t count);
  void Timestamp(const Timestamps& timestamps, std::uint32_t index);
  void Copy(const BufferSlice& from, const BufferSlice& to);
  // With 0, for the dispatches behind.
  void Clear(const BufferSlice& slice);
  // Takes memory over from, or hands it to, another device or process (dma-buf).
  void AcquireExternal(VkBuffer buffer);
  void ReleaseExternal(VkBuffer buffer);
  // Makes writes visible to the host and ends the recording.
  absl::Status Finish();

  VkCommandBuffer handle() const { return commands_; }

 private:
  friend class CommandPool;
  CommandBuffer(const LogicalDevice* device, VkCommandBuffer commands, bool copies_only)
      : device_(device), commands_(commands), copies_only_(copies_only) {}
  // All that its queue does.
  VkPipelineStageFlags stages() const;
  VkAccessFlags writes() const;
  VkAccessFlags accesses() const;
  void Memory(VkPipelineStageFlags from, VkAccessFlags from_access, VkPipelineStageFlags to,
              VkAccessFlags to_access);
  void Transfer(VkBuffer buffer, bool acquire);

  const LogicalDevice* device_;
  VkCommandBuffer commands_;
  bool copies_only_;
};

}  // namespace tandem::vulkan
