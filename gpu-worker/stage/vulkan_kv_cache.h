#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/device/device.h"

namespace tandem {

// Keys and values in memory of the device, a plane of each per layer: [block][kv head][token of the
// block][head_dim].
class VulkanKvCache final : public KvCache {
 public:
  // UNIMPLEMENTED when a plane is larger than the device binds at once, RESOURCE_EXHAUSTED when
  // memory runs out.
  static absl::StatusOr<std::unique_ptr<VulkanKvCache>> Create(const vulkan::LogicalDevice& device,
                                                               const ModelConfig& config,
                                                               const KvCacheSpec& spec);
  const KvCacheSpec& spec() const override { return spec_; }
  std::uint64_t bytes() const override { return bytes_; }

  struct Layer {
    vulkan::Buffer keys;
    vulkan::Buffer values;
  };
  // `layer` is a model layer of spec().layers.
  const Layer& Find(std::int32_t layer) const;

 private:
  explicit VulkanKvCache(const KvCacheSpec& spec) : spec_(spec) {}

  const KvCacheSpec spec_;
  std::uint64_t bytes_ = 0;
  // As in spec_.layers.
  std::vector<Layer> layers_;
};

}  // namespace tandem
