#pragma once

#include <cstdint>
#include <memory>
#include <span>
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
  static absl::StatusOr<std::unique_ptr<VulkanKvCache>> Create(vulkan::LogicalDevice& device,
                                                               const ModelConfig& config,
                                                               const KvCacheSpec& spec);
  const KvCacheSpec& spec() const override { return spec_; }
  std::uint64_t bytes() const override { return bytes_; }
  // Through a staging buffer; they allocate and record.
  absl::Status Export(const KvBlocks& blocks, std::span<std::byte> to) override;
  absl::Status Import(const KvBlocks& blocks, std::span<const std::byte> from) override;

  struct Layer {
    vulkan::Buffer keys;
    vulkan::Buffer values;
  };
  // `layer` is a model layer of spec().layers.
  const Layer& Find(std::int32_t layer) const;

 private:
  VulkanKvCache(vulkan::LogicalDevice& device, const ModelConfig& config, const KvCacheSpec& spec)
      : device_(device), spec_(spec), form_(config, spec) {}
  // The places of the blocks, in the order of the written form.
  std::vector<vulkan::BufferSlice> SlicesOf(const KvBlocks& blocks) const;
  // Copies between the slices and `staging`, where they lie one after another, and waits.
  absl::Status Copy(std::span<const vulkan::BufferSlice> slices, const vulkan::Buffer& staging,
                    bool to_staging);
  absl::StatusOr<vulkan::Buffer> Staging(std::size_t blocks, vulkan::Placement placement) const;

  vulkan::LogicalDevice& device_;
  const KvCacheSpec spec_;
  const KvBlockForm form_;
  std::uint64_t bytes_ = 0;
  // As in spec_.layers.
  std::vector<Layer> layers_;
};

}  // namespace tandem
