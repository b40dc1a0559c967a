#include "gpu-worker/stage/weight_layout.h"

#include <algorithm>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

constexpr std::uint64_t kPage = kPlaneAlignment;
constexpr std::uint64_t kLoadBytes = 16;

absl::StatusOr<std::vector<RowChunk>> Cut(const TensorEntry& tensor, std::uint64_t max_range) {
  const auto rows = static_cast<std::uint64_t>(tensor.shape.rows);
  const std::uint64_t value_row = tensor.value_bytes / rows;
  const std::uint64_t scale_row = tensor.scale_bytes / rows;
  std::uint64_t chunk = rows;
  if (RoundUp(std::max(tensor.value_bytes, tensor.scale_bytes), kLoadBytes) > max_range) {
    chunk = max_range / std::max(value_row, scale_row) / kChunkRows * kChunkRows;
    if (chunk == 0) {
      return absl::UnimplementedError(Cat("tensor ", TensorName(tensor.id), ": ", kChunkRows,
                                          " rows of ", value_row, " bytes do not fit into the ",
                                          max_range, " bytes that the device binds at once"));
    }
  }
  std::vector<RowChunk> chunks;
  for (std::uint64_t first = 0; first < rows; first += chunk) {
    const std::uint64_t count = std::min(chunk, rows - first);
    RowChunk piece;
    piece.first_row = static_cast<std::int64_t>(first);
    piece.rows = static_cast<std::int64_t>(count);
    piece.values = {tensor.value_offset + first * value_row,
                    RoundUp(count * value_row, kLoadBytes)};
    if (scale_row != 0) {
      piece.scales = {tensor.scale_offset + first * scale_row,
                      RoundUp(count * scale_row, kLoadBytes)};
    }
    chunks.push_back(piece);
  }
  return chunks;
}

std::vector<ByteSpan> SpansOf(const WeightLayout& layout) {
  std::vector<ByteSpan> spans;
  for (const auto& tensor : layout.tensors) {
    for (const RowChunk& chunk : tensor) {
      spans.push_back(chunk.values);
      if (chunk.scales.bytes != 0) spans.push_back(chunk.scales);
    }
  }
  std::sort(spans.begin(), spans.end(),
            [](const ByteSpan& a, const ByteSpan& b) { return a.offset < b.offset; });
  return spans;
}

}  // namespace

absl::StatusOr<WeightLayout> LayOutWeights(const RegionManifest& manifest, std::uint64_t max_range,
                                           std::uint64_t max_window) {
  WeightLayout layout;
  // A chunk and the pages it begins and ends in must fit into a window.
  TANDEM_CHECK(max_window > 2 * kPage);
  max_window = max_window / kPage * kPage;
  max_range = std::min(max_range, max_window - 2 * kPage);
  for (const TensorEntry& tensor : manifest.tensors) {
    TANDEM_ASSIGN_OR_RETURN(auto chunks, Cut(tensor, max_range));
    layout.tensors.push_back(std::move(chunks));
  }
  for (const ByteSpan& span : SpansOf(layout)) {
    const std::uint64_t end = RoundUp(span.offset + span.bytes, kPage);
    ByteSpan* last = layout.windows.empty() ? nullptr : &layout.windows.back();
    if (last != nullptr && end - last->offset <= max_window) {
      last->bytes = std::max(last->bytes, end - last->offset);
    } else {
      const std::uint64_t begin = span.offset / kPage * kPage;
      layout.windows.push_back({begin, end - begin});
    }
  }
  return layout;
}

std::size_t WindowOf(const WeightLayout& layout, const ByteSpan& span) {
  for (std::size_t i = 0; i < layout.windows.size(); ++i) {
    const ByteSpan& window = layout.windows[i];
    if (window.offset <= span.offset && span.offset + span.bytes <= window.offset + window.bytes) {
      return i;
    }
  }
  TANDEM_CHECK(!"every span of a layout lies in a window");
  return 0;
}

}  // namespace tandem
