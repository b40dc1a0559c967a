#include "gpu-worker/stage/weight_layout.h"

#include <algorithm>
#include <utility>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

constexpr std::uint64_t kLoadBytes = 16;

const ByteSpan* Holder(const std::vector<ByteSpan>& windows, const ByteSpan& span) {
  for (const ByteSpan& window : windows) {
    if (window.offset <= span.offset && span.offset + span.bytes <= window.offset + window.bytes)
      return &window;
  }
  return nullptr;
}

// Rows [first, first + count) of a tensor.
RowChunk ChunkOf(const TensorEntry& tensor, std::uint64_t first, std::uint64_t count) {
  const auto rows = static_cast<std::uint64_t>(tensor.shape.rows);
  const std::uint64_t value_row = tensor.value_bytes / rows;
  const std::uint64_t scale_row = tensor.scale_bytes / rows;
  RowChunk chunk;
  chunk.first_row = static_cast<std::int64_t>(first);
  chunk.rows = static_cast<std::int64_t>(count);
  chunk.values = {tensor.value_offset + first * value_row, RoundUp(count * value_row, kLoadBytes)};
  if (scale_row != 0)
    chunk.scales = {tensor.scale_offset + first * scale_row,
                    RoundUp(count * scale_row, kLoadBytes)};
  return chunk;
}

bool Fits(const RowChunk& chunk, std::uint64_t max_range, const std::vector<ByteSpan>& windows) {
  if (std::max(chunk.values.bytes, chunk.scales.bytes) > max_range) return false;
  return Holder(windows, chunk.values) != nullptr &&
         (chunk.scales.bytes == 0 || Holder(windows, chunk.scales) != nullptr);
}

// Takes as many groups of rows at a time as fit.
absl::StatusOr<std::vector<RowChunk>> Cut(const TensorEntry& tensor, std::uint64_t max_range,
                                          const std::vector<ByteSpan>& windows) {
  const auto rows = static_cast<std::uint64_t>(tensor.shape.rows);
  std::vector<RowChunk> chunks;
  for (std::uint64_t first = 0; first < rows;) {
    std::uint64_t count = std::min<std::uint64_t>(kChunkRows, rows - first);
    if (!Fits(ChunkOf(tensor, first, count), max_range, windows)) {
      return absl::UnimplementedError(
          Cat("tensor ", TensorName(tensor.id), ": ", count, " rows of ", tensor.value_bytes / rows,
              " bytes do not fit into the ", max_range,
              " bytes that the device binds at once, or into one window of the region"));
    }
    while (first + count < rows) {
      const std::uint64_t more = std::min(count + kChunkRows, rows - first);
      if (!Fits(ChunkOf(tensor, first, more), max_range, windows)) break;
      count = more;
    }
    chunks.push_back(ChunkOf(tensor, first, count));
    first += count;
  }
  return chunks;
}

}  // namespace

absl::StatusOr<WeightLayout> LayOutWeights(const RegionManifest& manifest, std::uint64_t max_range,
                                           std::vector<ByteSpan> windows) {
  WeightLayout layout;
  layout.windows = std::move(windows);
  for (const TensorEntry& tensor : manifest.tensors) {
    TANDEM_ASSIGN_OR_RETURN(auto chunks, Cut(tensor, max_range, layout.windows));
    layout.tensors.push_back(std::move(chunks));
  }
  return layout;
}

std::size_t WindowOf(const WeightLayout& layout, const ByteSpan& span) {
  const ByteSpan* window = Holder(layout.windows, span);
  TANDEM_CHECK(window != nullptr && "every span of a layout lies in a window");
  return static_cast<std::size_t>(window - layout.windows.data());
}

}  // namespace tandem
