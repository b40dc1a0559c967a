#include "gpu-worker/vulkan/descriptor.h"

#include <vector>

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {

DescriptorLayout::~DescriptorLayout() {
  if (layout_ != VK_NULL_HANDLE) vkDestroyDescriptorSetLayout(device_->handle(), layout_, nullptr);
}

absl::StatusOr<DescriptorLayout> DescriptorLayout::Create(const LogicalDevice& device,
                                                          std::uint32_t bindings) {
  std::vector<VkDescriptorSetLayoutBinding> list(bindings);
  for (std::uint32_t i = 0; i < bindings; ++i) {
    list[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
  }
  auto info = Structure<VkDescriptorSetLayoutCreateInfo>(
      VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO);
  info.bindingCount = bindings;
  info.pBindings = list.data();
  DescriptorLayout layout;
  layout.device_ = &device;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreateDescriptorSetLayout(device.handle(), &info, nullptr, &layout.layout_),
               "creating a descriptor set layout"));
  return layout;
}

DescriptorPool::~DescriptorPool() {
  if (pool_ != VK_NULL_HANDLE) vkDestroyDescriptorPool(device_->handle(), pool_, nullptr);
}

absl::StatusOr<DescriptorPool> DescriptorPool::Create(const LogicalDevice& device,
                                                      std::uint32_t sets, std::uint32_t buffers) {
  const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, buffers};
  auto info = Structure<VkDescriptorPoolCreateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO);
  info.maxSets = sets;
  info.poolSizeCount = 1;
  info.pPoolSizes = &size;
  DescriptorPool pool;
  pool.device_ = &device;
  TANDEM_RETURN_IF_ERROR(
      ToStatus(vkCreateDescriptorPool(device.handle(), &info, nullptr, &pool.pool_),
               Cat("creating a pool of ", sets, " descriptor sets")));
  return pool;
}

absl::StatusOr<VkDescriptorSet> DescriptorPool::MakeSet(const DescriptorLayout& layout,
                                                        std::span<const BufferSlice> slices) {
  const VkPhysicalDeviceLimits& limits = device_->physical().limits;
  std::vector<VkDescriptorBufferInfo> infos;
  for (const BufferSlice& slice : slices) {
    if (slice.bytes > limits.maxStorageBufferRange ||
        slice.offset % limits.minStorageBufferOffsetAlignment != 0) {
      return absl::InternalError(Cat("binding ", infos.size(), ": offset ", slice.offset, ", ",
                                     slice.bytes,
                                     " bytes; the device wants offsets in multiples of ",
                                     limits.minStorageBufferOffsetAlignment, " and at most ",
                                     limits.maxStorageBufferRange, " bytes"));
    }
    infos.push_back({slice.buffer, slice.offset, slice.bytes});
  }
  const VkDescriptorSetLayout handle = layout.handle();
  auto allocate =
      Structure<VkDescriptorSetAllocateInfo>(VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO);
  allocate.descriptorPool = pool_;
  allocate.descriptorSetCount = 1;
  allocate.pSetLayouts = &handle;
  VkDescriptorSet set = VK_NULL_HANDLE;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkAllocateDescriptorSets(device_->handle(), &allocate, &set),
                                  "allocating a descriptor set"));
  auto write = Structure<VkWriteDescriptorSet>(VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET);
  write.dstSet = set;
  write.descriptorCount = static_cast<std::uint32_t>(infos.size());
  write.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
  write.pBufferInfo = infos.data();
  vkUpdateDescriptorSets(device_->handle(), 1, &write, 0, nullptr);
  device_->counters().descriptor_writes.fetch_add(1, std::memory_order_relaxed);
  return set;
}

}  // namespace tandem::vulkan
