#include "gpu-worker/stage/vulkan_kv_cache.h"

#include <algorithm>
#include <string>

#include "gpu-worker/vulkan/text.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

absl::Status CheckLayers(const ModelConfig& config, const KvCacheSpec& spec) {
  std::int32_t before = -1;
  for (const std::int32_t layer : spec.layers) {
    if (layer <= before || layer >= config.num_layers) {
      return absl::InvalidArgumentError(vulkan::Cat("KV cache: expected ascending layers in [0, ",
                                                    config.num_layers, "), found ", layer,
                                                    " after ", before));
    }
    before = layer;
    const bool global = config.layer_is_global[static_cast<std::size_t>(layer)];
    const std::int32_t blocks = global ? spec.global_blocks : spec.window_blocks;
    if (blocks < 1) {
      return absl::InvalidArgumentError(vulkan::Cat("KV cache: expected at least one block for ",
                                                    global ? "global" : "sliding-window", " layer ",
                                                    layer, ", found ", blocks));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<VulkanKvCache>> VulkanKvCache::Create(
    const vulkan::LogicalDevice& device, const ModelConfig& config, const KvCacheSpec& spec) {
  TANDEM_RETURN_IF_ERROR(CheckLayers(config, spec));
  auto cache = std::unique_ptr<VulkanKvCache>(new VulkanKvCache(spec));
  const std::uint64_t element = spec.type == KvType::kFloat16 ? 2 : 4;
  const std::uint64_t block_bytes = element * kKvBlockTokens *
                                    static_cast<std::uint64_t>(config.num_kv_heads) *
                                    static_cast<std::uint64_t>(config.head_dim);
  const std::uint64_t most = device.physical().limits.maxStorageBufferRange;
  for (const std::int32_t layer : spec.layers) {
    const bool global = config.layer_is_global[static_cast<std::size_t>(layer)];
    const std::uint64_t plane =
        block_bytes * static_cast<std::uint64_t>(global ? spec.global_blocks : spec.window_blocks);
    const std::string what = vulkan::Cat("KV cache of layer ", layer);
    if (plane > most) {
      return absl::UnimplementedError(vulkan::Cat(
          what, ": ", plane, " bytes of keys, the device binds at most ", most, " at once"));
    }
    Layer made;
    TANDEM_ASSIGN_OR_RETURN(
        made.keys, vulkan::Buffer::Create(device, plane, vulkan::Placement::kDevice, what));
    TANDEM_ASSIGN_OR_RETURN(
        made.values, vulkan::Buffer::Create(device, plane, vulkan::Placement::kDevice, what));
    cache->bytes_ += 2 * plane;
    cache->layers_.push_back(std::move(made));
  }
  return cache;
}

const VulkanKvCache::Layer& VulkanKvCache::Find(std::int32_t layer) const {
  const auto at = std::lower_bound(spec_.layers.begin(), spec_.layers.end(), layer);
  TANDEM_CHECK(at != spec_.layers.end() && *at == layer);
  return layers_[static_cast<std::size_t>(at - spec_.layers.begin())];
}

}  // namespace tandem
