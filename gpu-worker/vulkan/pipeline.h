#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/logical_device.h"

namespace tandem::vulkan {

// One compute shader as it was compiled offline.
struct ShaderCode {
  std::string_view name;
  std::span<const std::uint32_t> spirv;
  std::uint32_t bindings = 0;    // storage buffers, set 0, numbered from 0
  std::uint32_t push_bytes = 0;  // size of its push constants
  KernelNeeds needs = KernelNeeds::kNothing;
};

// Owns a compute pipeline, its layout and its descriptor layout. Immutable, any thread.
class Pipeline {
 public:
  // constants[i] is specialisation constant i, a 32-bit value. A kernel with needs is compiled for
  // full subgroups of the device's required_subgroup; FAILED_PRECONDITION where the device lacks
  // them.
  static absl::StatusOr<std::unique_ptr<Pipeline>> Create(const LogicalDevice& device,
                                                          const ShaderCode& code,
                                                          std::span<const std::uint32_t> constants);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  VkPipeline handle() const { return pipeline_; }
  VkPipelineLayout layout() const { return layout_; }
  const DescriptorLayout& descriptor_layout() const { return descriptor_layout_; }
  std::uint32_t push_bytes() const { return push_bytes_; }

 private:
  Pipeline(const LogicalDevice& device, std::uint32_t push_bytes)
      : device_(device), push_bytes_(push_bytes) {}
  absl::Status CreateLayout(std::uint32_t bindings);

  const LogicalDevice& device_;
  const std::uint32_t push_bytes_;
  DescriptorLayout descriptor_layout_;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  VkPipeline pipeline_ = VK_NULL_HANDLE;
};

}  // namespace tandem::vulkan
