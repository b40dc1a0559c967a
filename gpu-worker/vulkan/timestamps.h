#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/logical_device.h"

namespace tandem::vulkan {

// Owns a pool of timestamp queries, which CommandBuffer::Timestamp writes. Movable; one thread.
class Timestamps {
 public:
  Timestamps() = default;
  Timestamps(Timestamps&& other) noexcept
      : device_(other.device_), pool_(std::exchange(other.pool_, VK_NULL_HANDLE)) {}
  Timestamps& operator=(Timestamps&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(pool_, other.pool_);
    return *this;
  }
  ~Timestamps();
  // UNIMPLEMENTED where the queue has no clock.
  static absl::StatusOr<Timestamps> Create(const LogicalDevice& device, std::uint32_t count);

  // Seconds on the device's clock, from an unknown start. The commands that write them are done.
  absl::StatusOr<std::vector<double>> Read(std::uint32_t first, std::uint32_t count) const;
  VkQueryPool handle() const { return pool_; }

 private:
  const LogicalDevice* device_ = nullptr;
  VkQueryPool pool_ = VK_NULL_HANDLE;
};

}  // namespace tandem::vulkan
