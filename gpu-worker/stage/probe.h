#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/descriptor.h"
#include "gpu-worker/vulkan/timeline.h"

namespace tandem {

// A real small dispatch whose answer is known. Everything is allocated once. Any thread.
class Probe {
 public:
  static absl::StatusOr<std::unique_ptr<Probe>> Create(const DeviceContext& context);
  ~Probe();
  // UNAVAILABLE when the device is lost, DEADLINE_EXCEEDED when it does not answer in 10 s,
  // DATA_LOSS when the answer is wrong.
  absl::Status Run();

 private:
  explicit Probe(const DeviceContext& context) : context_(context) {}
  absl::Status Record();

  const DeviceContext context_;
  std::mutex mutex_;
  vulkan::Buffer numbers_;
  vulkan::DescriptorPool descriptors_;
  vulkan::CommandPool pool_;
  vulkan::Timeline timeline_;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  std::uint64_t runs_ = 0;
};

}  // namespace tandem
