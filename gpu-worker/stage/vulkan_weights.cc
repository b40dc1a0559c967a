#include "gpu-worker/stage/vulkan_weights.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/tensors.h"

namespace tandem {

std::string_view VulkanWeights::import_kind() const {
  switch (path_) {
    case WeightPath::kDmaBuf:
      return "dma-buf";
    case WeightPath::kHostPointer:
      return "host-pointer";
    case WeightPath::kUpload:
      return "upload to its own memory";
    case WeightPath::kUploadAsAsked:
      return "upload as asked for";
  }
  TANDEM_CHECK(false && "unknown WeightPath");
}

absl::StatusOr<vulkan::Buffer> VulkanWeights::MakeWindow(Uploader& uploader, const ByteSpan& window,
                                                         UniqueFd dma_buf) const {
  vulkan::LogicalDevice& device = uploader.device();
  const std::string what = Cat("weights of region '", region_->manifest().name, "'");
  const std::span<const std::byte> bytes = region_->bytes();
  const std::byte* begin = bytes.data() + window.offset;
  switch (path_) {
    case WeightPath::kDmaBuf:
      return vulkan::Buffer::ImportDmaBuf(device, std::move(dma_buf), window.bytes, what);
    case WeightPath::kHostPointer:
      // Kernels only read weights; the driver's signature knows no const.
      return vulkan::Buffer::ImportHost(device, const_cast<std::byte*>(begin), window.bytes, what);
    case WeightPath::kUpload:
    case WeightPath::kUploadAsAsked:
      break;
  }
  TANDEM_ASSIGN_OR_RETURN(
      vulkan::Buffer buffer,
      vulkan::Buffer::Create(device, window.bytes, vulkan::Placement::kDevice, what));
  const std::uint64_t there = std::min<std::uint64_t>(window.bytes, bytes.size() - window.offset);
  TANDEM_RETURN_IF_ERROR(Annotate(uploader.Upload({begin, there}, buffer), what));
  return buffer;
}

vulkan::BufferSlice VulkanWeights::SliceOf(const WeightLayout& layout, const ByteSpan& span) const {
  const std::size_t window = WindowOf(layout, span);
  return {windows_[window].handle(), span.offset - layout.windows[window].offset, span.bytes};
}

absl::StatusOr<std::shared_ptr<const VulkanWeights>> VulkanWeights::Create(
    Uploader& uploader, std::shared_ptr<const Region> region, bool upload) {
  const vulkan::PhysicalDevice& physical = uploader.device().physical();
  std::vector<UniqueFd> dma_bufs = region->TakeWindows();
  // A GPU with memory of its own computes from that; no other one copies unasked.
  const bool unified = physical.unified_memory();
  if (upload || !unified) {
    return Make(uploader, std::move(region),
                unified ? WeightPath::kUploadAsAsked : WeightPath::kUpload, {});
  }
  absl::Status by_dma_buf = absl::UnimplementedError(
      dma_bufs.empty() ? "the loader has none to give: it needs /dev/udmabuf (tandem doctor)"
                       : "the driver imports none");
  if (!dma_bufs.empty() && physical.dma_buf_import) {
    auto weights = Make(uploader, region, WeightPath::kDmaBuf, std::move(dma_bufs));
    if (weights.ok()) return weights;
    by_dma_buf = weights.status();
    spdlog::warn("region '{}': not as a dma-buf: {}", region->manifest().name,
                 by_dma_buf.ToString());
  }
  auto weights = Make(uploader, region, WeightPath::kHostPointer, {});
  if (weights.ok()) return weights;
  return absl::Status(
      weights.status().code(),
      Cat("the device shares memory with the processor, but cannot use the weights where "
          "they are: as dma-bufs: ",
          by_dma_buf.message(), "; by host pointer: ", weights.status().message(),
          " (--weights=upload, or tandem up --gpu_weights=upload, copies them)"));
}

absl::StatusOr<std::shared_ptr<const VulkanWeights>> VulkanWeights::Make(
    Uploader& uploader, std::shared_ptr<const Region> region, WeightPath path,
    std::vector<UniqueFd> dma_bufs) {
  auto weights = std::shared_ptr<VulkanWeights>(new VulkanWeights(std::move(region), path));
  const RegionManifest& manifest = weights->manifest();
  std::vector<ByteSpan> windows = manifest.windows;
  if (path != WeightPath::kDmaBuf) {
    TANDEM_ASSIGN_OR_RETURN(windows,
                            WindowsOf(manifest, uploader.device().physical().max_allocation_bytes));
  }
  dma_bufs.resize(windows.size());
  TANDEM_ASSIGN_OR_RETURN(
      const WeightLayout layout,
      LayOutWeights(manifest, uploader.device().physical().limits.maxStorageBufferRange,
                    std::move(windows)));
  for (std::size_t i = 0; i < layout.windows.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(vulkan::Buffer buffer, weights->MakeWindow(uploader, layout.windows[i],
                                                                       std::move(dma_bufs[i])));
    weights->windows_.push_back(std::move(buffer));
  }
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
    DeviceTensor tensor{manifest.tensors[i].shape, manifest.tensors[i].format, {}};
    for (const RowChunk& chunk : layout.tensors[i]) {
      WeightChunk bound_chunk{
          chunk.first_row, chunk.rows, weights->SliceOf(layout, chunk.values), {}};
      if (chunk.scales.bytes != 0) bound_chunk.scales = weights->SliceOf(layout, chunk.scales);
      tensor.chunks.push_back(bound_chunk);
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
