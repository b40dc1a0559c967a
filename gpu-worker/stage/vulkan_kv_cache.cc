#include "gpu-worker/stage/vulkan_kv_cache.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "gpu-worker/vulkan/command_buffer.h"
#include "gpu-worker/vulkan/timeline.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/validate.h"

namespace tandem {
namespace {

// Of a staging buffer, where one block is not larger.
constexpr std::uint64_t kStagingBytes = 16 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<VulkanKvCache>> VulkanKvCache::Create(vulkan::LogicalDevice& device,
                                                                     const ModelConfig& config,
                                                                     const KvCacheSpec& spec) {
  TANDEM_RETURN_IF_ERROR(ValidateKvCacheSpec(config, spec));
  auto cache = std::unique_ptr<VulkanKvCache>(new VulkanKvCache(device, config, spec));
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

std::vector<vulkan::BufferSlice> VulkanKvCache::SlicesOf(const KvBlocks& blocks) const {
  std::vector<vulkan::BufferSlice> slices;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (const vulkan::Buffer* plane : {&layers_[i].keys, &layers_[i].values}) {
      for (const std::int32_t block : form_.BlocksOf(blocks, i)) {
        slices.push_back({plane->handle(), static_cast<std::uint64_t>(block) * form_.block_bytes,
                          form_.block_bytes});
      }
    }
  }
  return slices;
}

absl::StatusOr<vulkan::Buffer> VulkanKvCache::Staging(std::size_t blocks,
                                                      vulkan::Placement placement) const {
  const std::uint64_t fit = std::max<std::uint64_t>(1, kStagingBytes / form_.block_bytes);
  return vulkan::Buffer::Create(device_,
                                std::clamp<std::uint64_t>(blocks, 1, fit) * form_.block_bytes,
                                placement, "staging buffer of KV blocks");
}

absl::Status VulkanKvCache::Copy(std::span<const vulkan::BufferSlice> slices,
                                 const vulkan::Buffer& staging, bool to_staging) {
  TANDEM_ASSIGN_OR_RETURN(vulkan::CommandPool pool, vulkan::CommandPool::Create(device_));
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Timeline timeline, vulkan::Timeline::Create(device_));
  TANDEM_ASSIGN_OR_RETURN(vulkan::CommandBuffer commands, pool.Begin());
  std::uint64_t at = 0;
  for (const vulkan::BufferSlice& slice : slices) {
    const vulkan::BufferSlice staged = {staging.handle(), at, slice.bytes};
    commands.Copy(to_staging ? slice : staged, to_staging ? staged : slice);
    at += slice.bytes;
  }
  TANDEM_RETURN_IF_ERROR(commands.Finish());
  const VkCommandBuffer handle = commands.handle();
  TANDEM_RETURN_IF_ERROR(device_.Submit({&handle, 1}, timeline.handle(), 1));
  return timeline.Wait(1, Deadline::Never());
}

absl::Status VulkanKvCache::Export(const KvBlocks& blocks, std::span<std::byte> to) {
  TANDEM_RETURN_IF_ERROR(form_.Validate(spec_, blocks, to.size()));
  const std::vector<vulkan::BufferSlice> slices = SlicesOf(blocks);
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Buffer staging,
                          Staging(slices.size(), vulkan::Placement::kReadback));
  for (std::span<const vulkan::BufferSlice> left = slices; !left.empty();) {
    const auto part = left.first(std::min(left.size(), staging.bytes() / form_.block_bytes));
    TANDEM_RETURN_IF_ERROR(Copy(part, staging, /*to_staging=*/true));
    const std::size_t bytes = part.size() * form_.block_bytes;
    std::memcpy(to.data(), staging.data(), bytes);
    to = to.subspan(bytes);
    left = left.subspan(part.size());
  }
  return absl::OkStatus();
}

absl::Status VulkanKvCache::Import(const KvBlocks& blocks, std::span<const std::byte> from) {
  TANDEM_RETURN_IF_ERROR(form_.Validate(spec_, blocks, from.size()));
  const std::vector<vulkan::BufferSlice> slices = SlicesOf(blocks);
  TANDEM_ASSIGN_OR_RETURN(const vulkan::Buffer staging,
                          Staging(slices.size(), vulkan::Placement::kUpload));
  for (std::span<const vulkan::BufferSlice> left = slices; !left.empty();) {
    const auto part = left.first(std::min(left.size(), staging.bytes() / form_.block_bytes));
    const std::size_t bytes = part.size() * form_.block_bytes;
    std::memcpy(staging.data(), from.data(), bytes);
    TANDEM_RETURN_IF_ERROR(Copy(part, staging, /*to_staging=*/false));
    from = from.subspan(bytes);
    left = left.subspan(part.size());
  }
  return absl::OkStatus();
}

const VulkanKvCache::Layer& VulkanKvCache::Find(std::int32_t layer) const {
  const auto at = std::lower_bound(spec_.layers.begin(), spec_.layers.end(), layer);
  TANDEM_CHECK(at != spec_.layers.end() && *at == layer);
  return layers_[static_cast<std::size_t>(at - spec_.layers.begin())];
}

}  // namespace tandem
