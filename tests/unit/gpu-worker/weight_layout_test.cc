#include "gpu-worker/stage/weight_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// An embedding of 3000 rows x 1056 columns, int8, and the final norm behind it.
RegionManifest Manifest() {
  TensorEntry embedding;
  embedding.id = {TensorKind::kEmbedding, -1};
  embedding.shape = {3000, 1056};
  embedding.format = WeightFormat::kInt8;
  embedding.value_bytes = 3000 * 1056;
  embedding.scale_offset = (embedding.value_bytes + 4095) / 4096 * 4096;
  embedding.scale_bytes = 3000 * 33 * 2;
  TensorEntry norm;
  norm.id = {TensorKind::kFinalNorm, -1};
  norm.shape = {1, 1056};
  norm.value_offset = (embedding.scale_offset + embedding.scale_bytes + 4095) / 4096 * 4096;
  norm.value_bytes = 1056 * 4;
  return {"embedding", norm.value_offset + 8192, {embedding, norm}};
}

void ExpectSound(const RegionManifest& manifest, const WeightLayout& layout,
                 std::uint64_t max_range, std::uint64_t max_window) {
  ASSERT_EQ(layout.tensors.size(), manifest.tensors.size());
  for (std::size_t i = 0; i < layout.tensors.size(); ++i) {
    const TensorEntry& tensor = manifest.tensors[i];
    std::int64_t next = 0;
    for (const RowChunk& chunk : layout.tensors[i]) {
      EXPECT_EQ(chunk.first_row, next);
      next += chunk.rows;
      EXPECT_EQ(chunk.values.offset,
                tensor.value_offset +
                    static_cast<std::uint64_t>(chunk.first_row) *
                        (tensor.value_bytes / static_cast<std::uint64_t>(tensor.shape.rows)));
      for (const ByteSpan& span : {chunk.values, chunk.scales}) {
        if (span.bytes == 0) continue;
        EXPECT_LE(span.bytes, max_range);
        EXPECT_EQ(span.offset % 256, 0u);
        const ByteSpan& window = layout.windows[WindowOf(layout, span)];
        EXPECT_LE(window.bytes, max_window);
        EXPECT_EQ(window.offset % 4096, 0u);
        EXPECT_EQ(window.bytes % 4096, 0u);
      }
    }
    EXPECT_EQ(next, tensor.shape.rows);
  }
}

TEST(WeightLayout, OneWindowWhereEverythingFits) {
  const RegionManifest manifest = Manifest();
  const auto layout = LayOutWeights(manifest, 128 * kMiB, 2048 * kMiB);
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_EQ(layout->windows.size(), 1u);
  EXPECT_EQ(layout->tensors[0].size(), 1u);
  ExpectSound(manifest, *layout, 128 * kMiB, 2048 * kMiB);
}

TEST(WeightLayout, CutsIntoChunksAndWindows) {
  const RegionManifest manifest = Manifest();
  for (const std::uint64_t range : {300000ull, 600000ull, 1000000ull}) {
    for (const std::uint64_t window : {400000ull, 700000ull, 1500000ull, 1ull << 31}) {
      const auto layout = LayOutWeights(manifest, range, window);
      ASSERT_TRUE(layout.ok()) << layout.status();
      EXPECT_GT(layout->tensors[0].size(), 2u);
      ExpectSound(manifest, *layout, range, window);
    }
  }
}

TEST(WeightLayout, RowsThatDoNotFitAreRefused) {
  const auto layout = LayOutWeights(Manifest(), 256 * 1056 - 1, 1ull << 31);
  ASSERT_EQ(layout.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(layout.status().message()), testing::HasSubstr("embedding"));
}

}  // namespace
}  // namespace tandem
