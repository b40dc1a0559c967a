#include "gpu-worker/stage/vulkan_kv_cache.h"

#include <algorithm>
#include <string>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/validate.h"

namespace tandem {
absl::StatusOr<std::unique_ptr<VulkanKvCache>> VulkanKvCache::Create(
    const vulkan::LogicalDevice& device, const ModelConfig& config, const KvCacheSpec& spec) {
  TANDEM_RETURN_IF_ERROR(ValidateKvCacheSpec(config, spec));
  auto cache = std::unique_ptr<VulkanKvCache>(new VulkanKvCache(spec));
  const std::uint64_t most = device.physical().limits.maxStorageBufferRange;
  for (const std::int32_t layer : spec.layers) {
    const std::uint64_t plane = KvPlaneBytes(config, spec, layer);
    const std::string what = Cat("KV cache of layer ", layer);
    if (plane > most) {
      return absl::UnimplementedError(
          Cat(what, ": ", plane, " bytes of keys, the device binds at most ", most, " at once"));
    }
    Layer planes;
    TANDEM_ASSIGN_OR_RETURN(
        planes.keys, vulkan::Buffer::Create(device, plane, vulkan::Placement::kDevice, what));
    TANDEM_ASSIGN_OR_RETURN(
        planes.values, vulkan::Buffer::Create(device, plane, vulkan::Placement::kDevice, what));
    cache->bytes_ += 2 * plane;
    cache->layers_.push_back(std::move(planes));
  }
  return cache;
}

const VulkanKvCache::Layer& VulkanKvCache::Find(std::int32_t layer) const {
  const auto at = std::lower_bound(spec_.layers.begin(), spec_.layers.end(), layer);
  TANDEM_CHECK(at != spec_.layers.end() && *at == layer);
  return layers_[static_cast<std::size_t>(at - spec_.layers.begin())];
}

}  // namespace tandem
