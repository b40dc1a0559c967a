#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/base/deadline.h"

namespace tandem::vulkan {

// Owns a timeline semaphore that starts at 0. Movable; waiting from any thread.
class Timeline {
 public:
  Timeline() = default;
  Timeline(Timeline&& other) noexcept
      : device_(other.device_), semaphore_(std::exchange(other.semaphore_, VK_NULL_HANDLE)) {}
  Timeline& operator=(Timeline&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(semaphore_, other.semaphore_);
    return *this;
  }
  ~Timeline();
  static absl::StatusOr<Timeline> Create(const LogicalDevice& device);

  // Returns when the value is reached. DEADLINE_EXCEEDED, or UNAVAILABLE "device lost".
  absl::Status Wait(std::uint64_t value, Deadline deadline) const;
  // The same; but from `from` to `until` (both as Clock::Uptime counts) it asks again and again
  // instead of sleeping, since drivers wake who sleeps some time after the value is there.
  absl::Status WaitLooking(std::uint64_t value, absl::Duration from, absl::Duration until,
                           Deadline deadline) const;
  VkSemaphore handle() const { return semaphore_; }

 private:
  const LogicalDevice* device_ = nullptr;
  VkSemaphore semaphore_ = VK_NULL_HANDLE;
};

}  // namespace tandem::vulkan
