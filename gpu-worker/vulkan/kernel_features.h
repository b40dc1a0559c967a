#pragma once

#include <vulkan/vulkan.h>

#include <set>
#include <string>
#include <vector>

#include "gpu-worker/vulkan/physical_device.h"

namespace tandem::vulkan {

// The optional features behind KernelNeeds as one chain of Vulkan structures: filled by a query of
// what there is, or handed to vkCreateDevice. Not movable, its members point at each other.
class KernelFeatures {
 public:
  // Of a device with these extensions; asks it what it can do.
  KernelFeatures(VkPhysicalDevice handle, const std::set<std::string>& extensions);
  // Everything that `device` was found to need, to be enabled.
  explicit KernelFeatures(const PhysicalDevice& device);
  KernelFeatures(const KernelFeatures&) = delete;
  KernelFeatures& operator=(const KernelFeatures&) = delete;

  // Sets packed_dot, matrix, fragments, required_subgroup and unchecked_buffers.
  void Judge(VkInstance instance, PhysicalDevice* device) const;
  // To be enabled along with the chain.
  std::vector<const char*> extensions() const;
  // The head of the chain; Vulkan 1.2's structure, in which others may set bits, is part of it.
  void* chain() { return &v12_; }
  VkPhysicalDeviceVulkan12Features& v12() { return v12_; }

 private:
  // VK_KHR_cooperative_matrix is younger than the headers of Debian 12.
  struct CooperativeMatrix {
    VkStructureType sType;
    void* pNext;
    VkBool32 cooperativeMatrix;
    VkBool32 cooperativeMatrixRobustBufferAccess;
  };

  void Link(bool dot, bool subgroup, bool matrix, bool robustness);

  VkPhysicalDeviceVulkan12Features v12_;
  VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot_;
  VkPhysicalDeviceSubgroupSizeControlFeaturesEXT subgroup_;
  CooperativeMatrix matrix_;
  VkPhysicalDevicePipelineRobustnessFeaturesEXT robustness_;
  bool has_dot_ = false;
  bool has_subgroup_ = false;
  bool has_matrix_ = false;
  bool has_robustness_ = false;
};

}  // namespace tandem::vulkan
