#include "gpu-worker/vulkan/kernel_features.h"

#include <algorithm>
#include <vector>

#include "gpu-worker/vulkan/structure.h"

namespace tandem::vulkan {
namespace {

// Of VK_KHR_cooperative_matrix, version 2.
constexpr const char* kMatrixExtension = "VK_KHR_cooperative_matrix";
constexpr auto kMatrixFeaturesType = static_cast<VkStructureType>(1000506000);
constexpr auto kMatrixPropertiesType = static_cast<VkStructureType>(1000506001);

enum class Component : std::uint32_t { kFloat16 = 0, kFloat32 = 1 };

struct MatrixProperties {
  VkStructureType sType;
  void* pNext;
  std::uint32_t rows;     // of A and of the result
  std::uint32_t columns;  // of B and of the result
  std::uint32_t depth;
  Component a;
  Component b;
  Component c;
  Component result;
  VkBool32 saturating;
  std::uint32_t scope;
};
constexpr std::uint32_t kScopeSubgroup = 3;
using ReadMatrixProperties = VkResult(VKAPI_PTR*)(VkPhysicalDevice, std::uint32_t*,
                                                  MatrixProperties*);

constexpr std::uint32_t kSubgroup = 32;    // that kernels are written for
constexpr std::uint32_t kMinSubgroup = 8;  // lanes that share a row or quantise a group

std::vector<MatrixProperties> MatrixShapes(VkInstance instance, VkPhysicalDevice handle) {
  const auto read = reinterpret_cast<ReadMatrixProperties>(
      vkGetInstanceProcAddr(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"));
  std::uint32_t count = 0;
  if (read == nullptr || read(handle, &count, nullptr) != VK_SUCCESS) return {};
  std::vector<MatrixProperties> shapes(count, Structure<MatrixProperties>(kMatrixPropertiesType));
  if (read(handle, &count, shapes.data()) != VK_SUCCESS) return {};
  return shapes;
}

bool Offers(const std::vector<MatrixProperties>& shapes, std::uint32_t columns) {
  return std::any_of(shapes.begin(), shapes.end(), [columns](const MatrixProperties& shape) {
    return shape.rows == 16 && shape.columns == columns && shape.depth == 16 &&
           shape.a == Component::kFloat16 && shape.b == Component::kFloat16 &&
           shape.c == Component::kFloat32 && shape.result == Component::kFloat32 &&
           shape.scope == kScopeSubgroup;
  });
}

}  // namespace

void KernelFeatures::Link(bool dot, bool subgroup, bool matrix, bool robustness) {
  v12_ = Structure<VkPhysicalDeviceVulkan12Features>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES);
  dot_ = Structure<VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR);
  subgroup_ = Structure<VkPhysicalDeviceSubgroupSizeControlFeaturesEXT>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT);
  matrix_ = Structure<CooperativeMatrix>(kMatrixFeaturesType);
  robustness_ = Structure<VkPhysicalDevicePipelineRobustnessFeaturesEXT>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_ROBUSTNESS_FEATURES_EXT);
  has_dot_ = dot;
  has_subgroup_ = subgroup;
  has_matrix_ = matrix;
  has_robustness_ = robustness;
  void** tail = &v12_.pNext;
  const auto append = [&tail](auto& structure) {
    *tail = &structure;
    tail = &structure.pNext;
  };
  if (dot) append(dot_);
  if (subgroup) append(subgroup_);
  if (matrix) append(matrix_);
  if (robustness) append(robustness_);
}

KernelFeatures::KernelFeatures(VkPhysicalDevice handle, const std::set<std::string>& extensions) {
  Link(extensions.contains(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME),
       extensions.contains(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME),
       extensions.contains(kMatrixExtension),
       extensions.contains(VK_EXT_PIPELINE_ROBUSTNESS_EXTENSION_NAME));
  auto features =
      Structure<VkPhysicalDeviceFeatures2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2);
  features.pNext = chain();
  vkGetPhysicalDeviceFeatures2(handle, &features);
}

KernelFeatures::KernelFeatures(const PhysicalDevice& device) {
  Link(device.packed_dot, device.required_subgroup != 0, device.matrix, device.unchecked_buffers);
  dot_.shaderIntegerDotProduct = VK_TRUE;
  subgroup_.subgroupSizeControl = VK_TRUE;
  subgroup_.computeFullSubgroups = VK_TRUE;
  matrix_.cooperativeMatrix = VK_TRUE;
  robustness_.pipelineRobustness = VK_TRUE;
  if (!device.matrix) return;
  v12_.shaderFloat16 = VK_TRUE;
  v12_.vulkanMemoryModel = VK_TRUE;
  v12_.vulkanMemoryModelDeviceScope = device.fragments ? VK_TRUE : VK_FALSE;
}

void KernelFeatures::Judge(VkInstance instance, PhysicalDevice* device) const {
  auto sizes = Structure<VkPhysicalDeviceSubgroupSizeControlPropertiesEXT>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT);
  auto dot = Structure<VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR);
  auto v11 = Structure<VkPhysicalDeviceVulkan11Properties>(
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES);
  auto properties =
      Structure<VkPhysicalDeviceProperties2>(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2);
  properties.pNext = &v11;
  void** tail = &v11.pNext;
  if (has_subgroup_) {
    *tail = &sizes;
    tail = &sizes.pNext;
  }
  if (has_dot_) *tail = &dot;
  vkGetPhysicalDeviceProperties2(device->handle, &properties);
  const bool controls = has_subgroup_ && subgroup_.subgroupSizeControl == VK_TRUE &&
                        subgroup_.computeFullSubgroups == VK_TRUE &&
                        (sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0 &&
                        sizes.minSubgroupSize <= kSubgroup && kSubgroup <= sizes.maxSubgroupSize;
  if (controls) device->required_subgroup = kSubgroup;
  constexpr VkSubgroupFeatureFlags kOperations =
      VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
  const bool shuffles = (v11.subgroupSupportedOperations & kOperations) == kOperations &&
                        (v11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0 &&
                        (controls || v11.subgroupSize >= kMinSubgroup);
  device->packed_dot = has_dot_ && dot_.shaderIntegerDotProduct == VK_TRUE && shuffles;
  device->fast_packed_dot =
      device->packed_dot && dot.integerDotProduct4x8BitPackedSignedAccelerated == VK_TRUE;
  device->unchecked_buffers = has_robustness_ && robustness_.pipelineRobustness == VK_TRUE;
  if (!has_matrix_ || matrix_.cooperativeMatrix != VK_TRUE || !controls || !device->packed_dot ||
      v12_.shaderFloat16 != VK_TRUE || v12_.vulkanMemoryModel != VK_TRUE) {
    return;
  }
  const std::vector<MatrixProperties> shapes = MatrixShapes(instance, device->handle);
  device->matrix = Offers(shapes, 16);
  // Chained kernels hand over at the device's scope.
  device->fragments =
      device->matrix && Offers(shapes, 8) && v12_.vulkanMemoryModelDeviceScope == VK_TRUE;
}

std::vector<const char*> KernelFeatures::extensions() const {
  std::vector<const char*> names;
  if (has_dot_) names.push_back(VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
  if (has_subgroup_) names.push_back(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
  if (has_matrix_) names.push_back(kMatrixExtension);
  if (has_robustness_) names.push_back(VK_EXT_PIPELINE_ROBUSTNESS_EXTENSION_NAME);
  return names;
}

}  // namespace tandem::vulkan
