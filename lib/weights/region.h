#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/model/config.h"
#include "lib/weights/format.h"

namespace tandem {

// A region is one memfd with the weights of one part of the model (RegionName of
// lib/model/tensors.h). Its size is sealed; its contents are not, because udmabuf refuses memory
// that is sealed against writing. What the contents must be is held by checksums: whoever takes a
// region that others could have written to sums it first (RegionServer, the adopting loader).
// Workers get it read-only, and dma-bufs of it for drivers that import nothing else.

// A part of a region.
struct ByteSpan {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool operator==(const ByteSpan&) const = default;
};

// Kernels bind rows of a matrix in chunks that start at multiples of this many rows; no group of so
// many rows crosses a window's end. It keeps every offset a multiple of 256 bytes, all that Vulkan
// may ask for.
inline constexpr std::int64_t kChunkRows = 256;

struct TensorEntry {
  TensorId id;
  TensorShape shape;
  WeightFormat format = WeightFormat::kF32;
  std::uint64_t value_offset = 0;  // bytes from the region's start, multiples of kPlaneAlignment
  std::uint64_t value_bytes = 0;
  std::uint64_t scale_offset = 0;  // 0 and 0 bytes where the format has no scales
  std::uint64_t scale_bytes = 0;
  // XXH3 over the value plane then the scale plane, chained: Checksum(values) * 31 +
  // Checksum(scales)
  std::uint64_t checksum = 0;
};

// The checksum of a tensor with these planes (no scales: an empty plane).
std::uint64_t TensorChecksum(std::span<const std::byte> values, std::span<const std::byte> scales);

struct RegionManifest {
  std::string name;
  std::uint64_t bytes = 0;
  std::vector<TensorEntry> tensors;
  // What the loader hands out as dma-bufs beside the memfd, ascending, of whole pages; two may
  // share one. Empty where it can make none.
  std::vector<ByteSpan> windows;
  // Of the memfd: another one holds other pages, whatever its name.
  FileIdentity identity;
};

// Cuts a region into windows of at most `max_bytes` that cover all of it, so that every plane of
// every group of kChunkRows rows lies in one. UNIMPLEMENTED names the tensor whose rows are too
// large.
absl::StatusOr<std::vector<ByteSpan>> WindowsOf(const RegionManifest& manifest,
                                                std::uint64_t max_bytes);

// Offsets inside the file, aligned, in order, not overlapping, shapes as the configuration says,
// every tensor of the region present once.
absl::Status ValidateManifest(const RegionManifest& manifest, const ModelConfig& config);

// Lays tensors out one after another. `formats[i]` belongs to `tensors[i]`.
absl::StatusOr<RegionManifest> LayOutRegion(std::string name, const ModelConfig& config,
                                            const std::vector<TensorId>& tensors,
                                            const std::vector<WeightFormat>& formats);

// One tensor in mapped memory. Views stay valid while the Region lives. Read-only, any thread.
struct TensorView {
  TensorShape shape;
  WeightFormat format = WeightFormat::kF32;
  std::span<const std::byte> values;
  std::span<const std::byte> scales;
};

// DATA_LOSS names the first tensor of the region in `bytes` whose checksum is another one.
absl::Status VerifyChecksums(const RegionManifest& manifest, std::span<const std::byte> bytes);

// A mapped region. Immutable after Open, any thread.
class Region {
 public:
  // Checks the seal, the size and the manifest, then maps. With `verify_checksums` every byte is
  // read once. `windows` are dma-bufs of manifest.windows, or none.
  static absl::StatusOr<std::shared_ptr<const Region>> Open(UniqueFd fd, RegionManifest manifest,
                                                            const ModelConfig& config,
                                                            bool verify_checksums,
                                                            std::vector<UniqueFd> windows = {});
  const RegionManifest& manifest() const { return manifest_; }
  int fd() const { return fd_.get(); }
  // The dma-bufs that came with it. Whoever imports takes them, once: they are many, and a driver
  // holds the memory by itself.
  std::vector<UniqueFd> TakeWindows() const { return std::move(windows_); }
  std::span<const std::byte> bytes()
      const;  // page-aligned start; mapped up to the end of the last page
  // NOT_FOUND when the region has no such tensor.
  absl::StatusOr<TensorView> Find(TensorId id) const;

 private:
  Region() = default;
  UniqueFd fd_;
  Mapping mapping_;
  RegionManifest manifest_;
  mutable std::vector<UniqueFd> windows_;
};

// Values of row `row` as float32, into `out` (cols floats): the slow, obvious reference that fast
// code is tested against.
void DequantizeRow(const TensorView& tensor, std::int64_t row, std::span<float> out);

}  // namespace tandem
