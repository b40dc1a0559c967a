#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/upload.h"
#include "gpu-worker/stage/weight_layout.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/base/fd.h"
#include "lib/device/device.h"
#include "lib/weights/region.h"

namespace tandem {

// Some rows of a tensor, as kernels bind them.
struct WeightChunk {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  vulkan::BufferSlice values;
  vulkan::BufferSlice scales;  // null buffer where the format has none
};

// One tensor on the device.
struct DeviceTensor {
  TensorShape shape;
  WeightFormat format = WeightFormat::kF32;
  std::vector<WeightChunk> chunks;  // covering all rows, ascending
};

// How a region came to the device.
enum class WeightPath : std::uint8_t { kDmaBuf, kHostPointer, kUpload, kUploadAsAsked };

// A region on a Vulkan device: its pages imported, or a copy. Immutable, any thread.
class VulkanWeights final : public Weights {
 public:
  // With `upload` a copy. Else the region's own pages: by the dma-bufs that came with it where the
  // driver imports them, else by host pointer; an error names why neither works. Nothing is copied
  // that was not asked for.
  static absl::StatusOr<std::shared_ptr<const VulkanWeights>> Create(
      Uploader& uploader, std::shared_ptr<const Region> region, bool upload);

  const RegionManifest& manifest() const override { return region_->manifest(); }
  std::string_view import_kind() const override;
  // NOT_FOUND when the region has no such tensor.
  absl::StatusOr<const DeviceTensor*> Find(TensorId id) const;

 private:
  VulkanWeights(std::shared_ptr<const Region> region, WeightPath path)
      : region_(std::move(region)), path_(path) {}
  static absl::StatusOr<std::shared_ptr<const VulkanWeights>> Make(
      Uploader& uploader, std::shared_ptr<const Region> region, WeightPath path,
      std::vector<UniqueFd> dma_bufs);
  absl::StatusOr<vulkan::Buffer> MakeWindow(Uploader& uploader, const ByteSpan& window,
                                            UniqueFd dma_buf) const;
  vulkan::BufferSlice SliceOf(const WeightLayout& layout, const ByteSpan& span) const;

  const std::shared_ptr<const Region> region_;
  const WeightPath path_;
  std::vector<vulkan::Buffer> windows_;
  std::vector<DeviceTensor> tensors_;  // as in the manifest
};

}  // namespace tandem
