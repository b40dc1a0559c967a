#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/tuning.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "gpu-worker/vulkan/pipeline.h"

namespace tandem {

class ChainHealth;
class DispatchTimer;

// The pipelines of one device, each made at its first use and kept. Any thread.
class PipelineLibrary {
 public:
  explicit PipelineLibrary(const vulkan::LogicalDevice& device) : device_(device) {}

  // Of the kernel table. The result lives as long as the library.
  absl::StatusOr<const vulkan::Pipeline*> Get(std::string_view kernel,
                                              const std::vector<std::uint32_t>& constants);

 private:
  const vulkan::LogicalDevice& device_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::vector<std::uint32_t>>, std::unique_ptr<vulkan::Pipeline>>
      pipelines_;
};

// What programs share of their device. The device owns it all and outlives them.
struct DeviceContext {
  vulkan::LogicalDevice& device;
  PipelineLibrary& pipelines;
  const Tuning& tuning;
  // Kernels with KernelNeeds::kFragments can be used: the device's map of matrix elements is the
  // one they are written for.
  bool fragments = false;
  // Null where nothing is timed.
  DispatchTimer* timer = nullptr;
  // Null where dispatches are not chained (chain.h).
  ChainHealth* chain = nullptr;

  // Kernels with KernelNeeds::kMatrix are to be used.
  bool matrices() const { return device.physical().matrix && tuning.matrices; }

  // Invocations of a subgroup of kernels that need anything.
  std::uint32_t subgroup() const {
    const vulkan::PhysicalDevice& physical = device.physical();
    return physical.required_subgroup != 0 ? physical.required_subgroup : physical.subgroup_size;
  }
};

}  // namespace tandem
