#include "gpu-worker/stage/vulkan_weights.h"

#include <algorithm>
#include <string>
#include <utility>

#include "gpu-worker/stage/upload.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/tensors.h"

namespace tandem {

absl::StatusOr<vulkan::Buffer> VulkanWeights::MakeWindow(vulkan::LogicalDevice& device,
                                                         const ByteSpan& window) const {
  const std::string what = Cat("weights of region '", region_->manifest().name, "'");
  const std::span<const std::byte> bytes = region_->bytes();
  const std::byte* begin = bytes.data() + window.offset;
  if (upload_) {
    TANDEM_ASSIGN_OR_RETURN(
        vulkan::Buffer buffer,
        vulkan::Buffer::Create(device, window.bytes, vulkan::Placement::kDevice, what));
    const std::uint64_t there = std::min<std::uint64_t>(window.bytes, bytes.size() - window.offset);
    TANDEM_RETURN_IF_ERROR(Annotate(Upload(device, {begin, there}, buffer), what));
    return buffer;
  }
  // Kernels only read weights; the driver's signature knows no const.
  absl::StatusOr<vulkan::Buffer> buffer =
      vulkan::Buffer::ImportHost(device, const_cast<std::byte*>(begin), window.bytes, what);
  if (buffer.ok()) return buffer;
  return Annotate(buffer.status(),
                  "the device shares memory with the processor, but cannot use the weights where "
                  "they are (--gpu_weights=upload copies them)");
}

vulkan::BufferSlice VulkanWeights::SliceOf(const WeightLayout& layout, const ByteSpan& span) const {
  const std::size_t window = WindowOf(layout, span);
  return {windows_[window].handle(), span.offset - layout.windows[window].offset, span.bytes};
}

absl::StatusOr<std::shared_ptr<const VulkanWeights>> VulkanWeights::Create(
    vulkan::LogicalDevice& device, std::shared_ptr<const Region> region, bool upload) {
  auto weights = std::shared_ptr<VulkanWeights>(new VulkanWeights(std::move(region), upload));
  const RegionManifest& manifest = weights->manifest();
  TANDEM_ASSIGN_OR_RETURN(const WeightLayout layout,
                          LayOutWeights(manifest, device.physical().limits.maxStorageBufferRange,
                                        device.physical().max_allocation_bytes));
  for (const ByteSpan& window : layout.windows) {
    TANDEM_ASSIGN_OR_RETURN(vulkan::Buffer buffer, weights->MakeWindow(device, window));
    weights->windows_.push_back(std::move(buffer));
  }
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
    DeviceTensor tensor{manifest.tensors[i].shape, manifest.tensors[i].format, {}};
    for (const RowChunk& chunk : layout.tensors[i]) {
      WeightChunk made{chunk.first_row, chunk.rows, weights->SliceOf(layout, chunk.values), {}};
      if (chunk.scales.bytes != 0) made.scales = weights->SliceOf(layout, chunk.scales);
      tensor.chunks.push_back(made);
    }
    weights->tensors_.push_back(std::move(tensor));
  }
  return weights;
}

absl::StatusOr<const DeviceTensor*> VulkanWeights::Find(TensorId id) const {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (manifest().tensors[i].id == id) return &tensors_[i];
  }
  return absl::NotFoundError(Cat("region '", manifest().name, "' has no tensor ", TensorName(id)));
}

}  // namespace tandem
