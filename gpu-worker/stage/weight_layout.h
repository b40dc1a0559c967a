#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/weights/region.h"

namespace tandem {

// How a region of weights is cut for a device. A descriptor sees at most `max_range` bytes, so
// large matrices are cut into chunks of rows; one allocation or import holds at most `max_window`
// bytes, so the region is covered by windows. Windows start and end at pages and may share one.

struct ByteSpan {
  std::uint64_t offset = 0;  // from the region's start
  std::uint64_t bytes = 0;   // rounded up to 16
};

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

// Chunks start at multiples of kChunkRows rows, which keeps every offset a multiple of 256 bytes,
// all that Vulkan may ask for.
inline constexpr std::int64_t kChunkRows = 256;

// UNIMPLEMENTED when kChunkRows rows of a matrix are larger than a descriptor may be.
absl::StatusOr<WeightLayout> LayOutWeights(const RegionManifest& manifest, std::uint64_t max_range,
                                           std::uint64_t max_window);

// The window that holds `span`: its index.
std::size_t WindowOf(const WeightLayout& layout, const ByteSpan& span);

}  // namespace tandem
