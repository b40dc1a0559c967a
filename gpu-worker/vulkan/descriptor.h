#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"

namespace tandem::vulkan {

// Owns the layout of a set of `bindings` storage buffers, numbered from 0. Movable.
class DescriptorLayout {
 public:
  DescriptorLayout() = default;
  DescriptorLayout(DescriptorLayout&& other) noexcept
      : device_(other.device_), layout_(std::exchange(other.layout_, VK_NULL_HANDLE)) {}
  DescriptorLayout& operator=(DescriptorLayout&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(layout_, other.layout_);
    return *this;
  }
  ~DescriptorLayout();
  static absl::StatusOr<DescriptorLayout> Create(const LogicalDevice& device,
                                                 std::uint32_t bindings);
  VkDescriptorSetLayout handle() const { return layout_; }

 private:
  const LogicalDevice* device_ = nullptr;
  VkDescriptorSetLayout layout_ = VK_NULL_HANDLE;
};

// Owns a pool sized once, and the sets taken from it (freed with it). Movable.
class DescriptorPool {
 public:
  DescriptorPool() = default;
  DescriptorPool(DescriptorPool&& other) noexcept
      : device_(other.device_), pool_(std::exchange(other.pool_, VK_NULL_HANDLE)) {}
  DescriptorPool& operator=(DescriptorPool&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(pool_, other.pool_);
    return *this;
  }
  ~DescriptorPool();
  static absl::StatusOr<DescriptorPool> Create(const LogicalDevice& device, std::uint32_t sets,
                                               std::uint32_t buffers);
  // A set whose binding i is slices[i]. Offsets must be multiples of the device's
  // minStorageBufferOffsetAlignment and sizes within maxStorageBufferRange (INTERNAL otherwise: the
  // caller cuts).
  absl::StatusOr<VkDescriptorSet> MakeSet(const DescriptorLayout& layout,
                                          std::span<const BufferSlice> slices);

 private:
  const LogicalDevice* device_ = nullptr;
  VkDescriptorPool pool_ = VK_NULL_HANDLE;
};

}  // namespace tandem::vulkan
