#pragma once

#include <vulkan/vulkan.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/physical_device.h"

namespace tandem::vulkan {

// What steady state must leave unchanged (submissions apart); the RAII classes of this folder
// count.
struct Counters {
  std::atomic<std::uint64_t> allocations{0};
  std::atomic<std::uint64_t> descriptor_writes{0};
  std::atomic<std::uint64_t> command_recordings{0};
  std::atomic<std::uint64_t> submissions{0};
};

// Which of a device's queues; the one for transfers is that for compute where the device has no
// other.
enum class Queue : std::uint8_t { kCompute, kTransfer };

// Owns a VkDevice with a compute queue and, where it has one, a queue for transfers, its pipeline
// cache and the extension functions in use. Any thread. Must outlive all objects made from it.
class LogicalDevice {
 public:
  // `pipelines`: what PipelineData gave before, on this device and driver; or nothing.
  static absl::StatusOr<std::unique_ptr<LogicalDevice>> Create(
      const PhysicalDevice& physical, std::span<const std::byte> pipelines = {});
  ~LogicalDevice();
  LogicalDevice(const LogicalDevice&) = delete;
  LogicalDevice& operator=(const LogicalDevice&) = delete;

  VkDevice handle() const { return device_; }
  const PhysicalDevice& physical() const { return physical_; }
  VkPipelineCache pipeline_cache() const { return pipeline_cache_; }
  // Every pipeline that was compiled so far, for the next start.
  absl::StatusOr<std::vector<std::byte>> PipelineData() const;
  Counters& counters() const { return counters_; }

  // Runs the command buffers in order as one job; `timeline` reaches `value` when all are done.
  // Allocates nothing.
  absl::Status Submit(std::span<const VkCommandBuffer> commands, VkSemaphore timeline,
                      std::uint64_t value, Queue queue = Queue::kCompute);
  std::uint32_t FamilyOf(Queue queue) const;

  // The first memory type of `allowed` that has all of `required`, and `preferred` too if one does.
  // One with none of `unwanted` comes first among equals. NOT_FOUND if none.
  absl::StatusOr<std::uint32_t> MemoryType(std::uint32_t allowed, VkMemoryPropertyFlags required,
                                           VkMemoryPropertyFlags preferred,
                                           VkMemoryPropertyFlags unwanted = 0) const;

  // Null where the extension is not there.
  PFN_vkGetMemoryHostPointerPropertiesEXT get_host_pointer_properties = nullptr;
  PFN_vkGetMemoryFdPropertiesKHR get_fd_properties = nullptr;
  PFN_vkGetMemoryFdKHR get_fd = nullptr;

 private:
  explicit LogicalDevice(const PhysicalDevice& physical) : physical_(physical) {}

  const PhysicalDevice physical_;
  VkDevice device_ = VK_NULL_HANDLE;
  VkPipelineCache pipeline_cache_ = VK_NULL_HANDLE;
  // Guards both queues, which may be the same.
  std::mutex queue_mutex_;
  VkQueue compute_queue_ = VK_NULL_HANDLE;
  VkQueue transfer_queue_ = VK_NULL_HANDLE;
  mutable Counters counters_;
};

}  // namespace tandem::vulkan
