#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/weights/region.h"

namespace tandem {

// How a region of weights is cut for a device. A descriptor sees at most `max_range` bytes, so
// large matrices are cut into chunks of rows; one allocation or import holds one window, so no
// chunk's plane crosses a window's end.

struct RowChunk {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  ByteSpan values;
  ByteSpan scales;  // 0 bytes where the format has none
};

struct WeightLayout {
  std::vector<std::vector<RowChunk>> tensors;  // as in the manifest
  std::vector<ByteSpan> windows;               // ascending
};

// `windows` cover the region: WindowsOf, or those that the loader hands out. A span's bytes are
// rounded up to 16. UNIMPLEMENTED when kChunkRows rows of a matrix are larger than a descriptor may
// be, or lie in no window.
absl::StatusOr<WeightLayout> LayOutWeights(const RegionManifest& manifest, std::uint64_t max_range,
                                           std::vector<ByteSpan> windows);

// The window that holds `span`: its index.
std::size_t WindowOf(const WeightLayout& layout, const ByteSpan& span);

}  // namespace tandem
