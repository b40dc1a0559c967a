#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/device/device.h"

namespace tandem {

// A ring of residual slots that this device reads or writes.
class VulkanResidual final : public ResidualBuffer {
 public:
  static absl::StatusOr<std::unique_ptr<VulkanResidual>> Create(const vulkan::LogicalDevice& device,
                                                                const ResidualLayout& layout);
  static absl::StatusOr<std::unique_ptr<VulkanResidual>> Import(const vulkan::LogicalDevice& device,
                                                                HandleKind kind, UniqueFd fd,
                                                                const ResidualLayout& layout);
  static absl::StatusOr<std::unique_ptr<VulkanResidual>> Export(const vulkan::LogicalDevice& device,
                                                                HandleKind kind,
                                                                const ResidualLayout& layout,
                                                                UniqueFd* fd);

  const ResidualLayout& layout() const override { return layout_; }
  const vulkan::Buffer& buffer() const { return buffer_; }
  // Another device's or process's too, by a handle of the driver: its ownership is taken and given
  // back around every use.
  bool external() const { return external_; }

 private:
  VulkanResidual(const ResidualLayout& layout, bool external)
      : layout_(layout), external_(external) {}

  const ResidualLayout layout_;
  const bool external_;
  Mapping mapping_;  // of an imported memfd; outlives buffer_
  vulkan::Buffer buffer_;
};

}  // namespace tandem
