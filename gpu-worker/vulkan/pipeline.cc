#include "gpu-worker/vulkan/pipeline.h"

#include <vector>

#include "gpu-worker/vulkan/result.h"
#include "gpu-worker/vulkan/structure.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {
namespace {

// Needed only while a pipeline is made.
class ShaderModule {
 public:
  explicit ShaderModule(VkDevice device) : device_(device) {}
  ~ShaderModule() { vkDestroyShaderModule(device_, module_, nullptr); }
  ShaderModule(const ShaderModule&) = delete;
  ShaderModule& operator=(const ShaderModule&) = delete;

  absl::Status Create(const ShaderCode& code) {
    auto info = Structure<VkShaderModuleCreateInfo>(VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO);
    info.codeSize = code.spirv.size_bytes();
    info.pCode = code.spirv.data();
    return ToStatus(vkCreateShaderModule(device_, &info, nullptr, &module_),
                    Cat("loading kernel ", code.name));
  }
  VkShaderModule handle() const { return module_; }

 private:
  VkDevice device_;
  VkShaderModule module_ = VK_NULL_HANDLE;
};

}  // namespace

absl::Status Pipeline::CreateLayout(std::uint32_t bindings) {
  TANDEM_ASSIGN_OR_RETURN(descriptor_layout_, DescriptorLayout::Create(device_, bindings));
  const VkDescriptorSetLayout set = descriptor_layout_.handle();
  const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, push_bytes_};
  auto info = Structure<VkPipelineLayoutCreateInfo>(VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO);
  info.setLayoutCount = 1;
  info.pSetLayouts = &set;
  info.pushConstantRangeCount = push_bytes_ == 0 ? 0 : 1;
  info.pPushConstantRanges = &push;
  return ToStatus(vkCreatePipelineLayout(device_.handle(), &info, nullptr, &layout_),
                  "creating a pipeline layout");
}

absl::StatusOr<std::unique_ptr<Pipeline>> Pipeline::Create(
    const LogicalDevice& device, const ShaderCode& code, std::span<const std::uint32_t> constants) {
  const PhysicalDevice& physical = device.physical();
  if (!physical.Has(code.needs)) {
    return absl::FailedPreconditionError(
        Cat("kernel ", code.name, " uses what device \"", physical.name, "\" lacks"));
  }
  auto pipeline = std::unique_ptr<Pipeline>(new Pipeline(device, code.push_bytes));
  TANDEM_RETURN_IF_ERROR(pipeline->CreateLayout(code.bindings));
  ShaderModule module(device.handle());
  TANDEM_RETURN_IF_ERROR(module.Create(code));
  std::vector<VkSpecializationMapEntry> entries;
  for (std::uint32_t i = 0; i < constants.size(); ++i) {
    entries.push_back({i, i * 4, sizeof(std::uint32_t)});
  }
  VkSpecializationInfo specialisation{};
  specialisation.mapEntryCount = static_cast<std::uint32_t>(entries.size());
  specialisation.pMapEntries = entries.data();
  specialisation.dataSize = constants.size_bytes();
  specialisation.pData = constants.data();
  auto info =
      Structure<VkComputePipelineCreateInfo>(VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO);
  info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.module = module.handle();
  info.stage.pName = "main";
  info.stage.pSpecializationInfo = &specialisation;
  auto subgroup = Structure<VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT>(
      VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT);
  subgroup.requiredSubgroupSize = physical.required_subgroup;
  if (code.needs != KernelNeeds::kNothing && physical.required_subgroup != 0) {
    info.stage.pNext = &subgroup;
    info.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT;
  }
  // Kernels keep to their buffers themselves.
  auto robustness = Structure<VkPipelineRobustnessCreateInfoEXT>(
      VK_STRUCTURE_TYPE_PIPELINE_ROBUSTNESS_CREATE_INFO_EXT);
  robustness.storageBuffers = VK_PIPELINE_ROBUSTNESS_BUFFER_BEHAVIOR_DISABLED_EXT;
  robustness.uniformBuffers = VK_PIPELINE_ROBUSTNESS_BUFFER_BEHAVIOR_DISABLED_EXT;
  robustness.vertexInputs = VK_PIPELINE_ROBUSTNESS_BUFFER_BEHAVIOR_DISABLED_EXT;
  robustness.images = VK_PIPELINE_ROBUSTNESS_IMAGE_BEHAVIOR_DISABLED_EXT;
  if (physical.unchecked_buffers) info.pNext = &robustness;
  info.layout = pipeline->layout_;
  TANDEM_RETURN_IF_ERROR(ToStatus(vkCreateComputePipelines(device.handle(), device.pipeline_cache(),
                                                           1, &info, nullptr, &pipeline->pipeline_),
                                  Cat("compiling kernel ", code.name)));
  return pipeline;
}

Pipeline::~Pipeline() {
  vkDestroyPipeline(device_.handle(), pipeline_, nullptr);
  vkDestroyPipelineLayout(device_.handle(), layout_, nullptr);
}

}  // namespace tandem::vulkan
