#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/device/device.h"

namespace tandem {

// What the device imports and exports, found by trying with one page: a driver's list of extensions
// does not tell whether it takes the pages of a memfd.
MemoryDeclaration DeclareVulkanMemory(const vulkan::LogicalDevice& device);

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
  std::span<std::byte> host_view() const override {
    if (mapping_.data() != nullptr) return {mapping_.data(), mapping_.size()};
    return {buffer_.data(), buffer_.data() == nullptr ? 0 : buffer_.bytes()};
  }
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
