#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/base/thread_pool.h"
#include "lib/weights/make_region.h"
#include "loader/pack/quant_mode.h"
#include "loader/read/model_source.h"

namespace tandem {

// A step forward, reported by whichever thread made it (several at a time).
struct PackProgress {
  const SourceTensor* tensor = nullptr;
  std::uint64_t bytes = 0;      // of packed weights, since the last report
  bool tensor_is_done = false;  // this was the tensor's last part
};

struct PackOptions {
  bool huge_pages = true;  // where there are any
  std::function<void(const PackProgress&)>
      on_progress;                            // may be empty; must be thread-safe and quick
  const std::atomic<bool>* cancel = nullptr;  // set by another thread: Pack returns CANCELLED soon
};

// Turns an opened model into regions. Rows are read, converted and written in parts of about a
// megabyte by all threads of a pool, so memory beside the regions stays bounded.
class ModelPacker {
 public:
  // Decides formats and layouts. INVALID_ARGUMENT naming file and tensor when a format cannot hold
  // a shape (rows that are not a multiple of 32 in int8 or int4). `source` must outlive the packer.
  static absl::StatusOr<ModelPacker> Create(const ModelSource& source, QuantMode mode);

  // One for each region of the model, without checksums: "embedding" first, then attention and FFN
  // of each layer.
  const std::vector<RegionManifest>& layouts() const { return layouts_; }
  std::uint64_t total_bytes() const { return total_bytes_; }  // of all planes
  std::uint32_t total_tensors() const;
  // "bf16", "int8", "int4", or "mixed" where the matrices differ.
  std::string_view weight_format() const;

  // All regions, or the first error and none of them: one line with the file, the tensor, what was
  // expected and found. Those in `finished` are taken as they are and not packed.
  absl::StatusOr<std::vector<SealedRegion>> Pack(ThreadPool& pool, const PackOptions& options,
                                                 std::vector<SealedRegion> finished = {}) const;

  // Reads and packs all of it as Pack does, but keeps no region: finds what only the data can show
  // (values that are not finite, a truncated file) in the memory of the largest region.
  absl::Status Check(ThreadPool& pool, const PackOptions& options) const;

 private:
  explicit ModelPacker(const ModelSource& source) : source_(&source) {}
  void ReportWhole(const RegionManifest& layout, const PackOptions& options) const;
  // All at once, in their order.
  absl::StatusOr<std::vector<SealedRegion>> PackRegions(
      const std::vector<const RegionManifest*>& layouts, ThreadPool& pool,
      const PackOptions& options) const;

  const ModelSource* source_;
  std::vector<RegionManifest> layouts_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace tandem
