#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"
#include "lib/model/config.h"
#include "lib/model/tensors.h"
#include "lib/weights/region.h"

namespace tandem {

// A finished region: its size sealed for ever, `fd` open for reading only.
struct SealedRegion {
  RegionManifest manifest;
  UniqueFd fd;
  // Of it in pages of 2 MiB.
  std::uint64_t huge_bytes = 0;
};

// A region being written. The planes may be filled by several threads at once; Finish comes after.
// Dropped before Finish, it leaves nothing behind.
class RegionBuilder {
 public:
  // Allocates the memory of a manifest that LayOutRegion made. With `huge_pages`, reserved 2 MiB
  // pages where there are any (the manifest's size is then rounded up to whole ones), else those
  // that the kernel makes of ordinary memory (MakeHugePages).
  static absl::StatusOr<RegionBuilder> Create(RegionManifest manifest, bool huge_pages);

  const RegionManifest& manifest() const { return manifest_; }
  std::span<std::byte> values(std::size_t tensor);  // index into manifest().tensors
  std::span<std::byte> scales(std::size_t tensor);
  // Pieces of memory that may become huge pages before they are written: none without
  // `huge_pages`. Different pieces from different threads. False: the kernel makes none.
  std::size_t pieces() const { return piece_bytes_.size(); }
  bool MakeHugePages(std::size_t piece);
  // Computes the checksum of one tensor whose planes are full. Different tensors may be summed by
  // different threads.
  void Sum(std::size_t tensor);
  // Sums the tensors that were not, unmaps, seals.
  absl::StatusOr<SealedRegion> Finish() &&;

 private:
  RegionBuilder() = default;
  RegionManifest manifest_;
  SharedMemory memory_;
  std::vector<char> summed_;
  // Of each piece, what is in huge pages.
  std::vector<std::uint64_t> piece_bytes_;
  bool has_reserved_pages_ = false;
};

// Gives row `row` of a tensor as floats; norms as 1 + w.
using FloatRowSource = std::function<void(TensorId id, std::int64_t row, std::span<float> out)>;

// Builds one region from floats, its matrices in `matrix_format`, and opens it. For tests and
// tools; the loader packs in parallel. INVALID_ARGUMENT naming the tensor when the format cannot
// hold its shape or a value is not finite.
absl::StatusOr<std::shared_ptr<const Region>> MakeRegion(const ModelConfig& config, WeightPart part,
                                                         std::int32_t layer,
                                                         WeightFormat matrix_format,
                                                         const FloatRowSource& source);

}  // namespace tandem
