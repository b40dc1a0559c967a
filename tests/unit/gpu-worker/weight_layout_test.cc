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
  RegionManifest manifest;
  manifest.name.assign("embedding");
  manifest.bytes = norm.value_offset + 8192;
  manifest.tensors = {embedding, norm};
  return manifest;
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
  const auto layout = LayOutWeights(manifest, 128 * kMiB, *WindowsOf(manifest, 2048 * kMiB));
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_EQ(layout->windows.size(), 1u);
  EXPECT_EQ(layout->tensors[0].size(), 1u);
  ExpectSound(manifest, *layout, 128 * kMiB, 2048 * kMiB);
}

TEST(WeightLayout, CutsIntoChunksAndWindows) {
  const RegionManifest manifest = Manifest();
  for (const std::uint64_t range : {300000ull, 600000ull, 1000000ull}) {
    for (const std::uint64_t window : {400000ull, 700000ull, 1500000ull, 1ull << 31}) {
      const auto layout = LayOutWeights(manifest, range, *WindowsOf(manifest, window));
      ASSERT_TRUE(layout.ok()) << layout.status();
      EXPECT_GT(layout->tensors[0].size(), 2u);
      ExpectSound(manifest, *layout, range, window);
    }
  }
}

// The feed-forward region of a 27B model in int4, as the loader lays it out, in windows of
// udmabuf's default size.
TEST(WeightLayout, TheLargestRegionsFitIntoUdmabufsWindows) {
  ModelConfig config;
  config.vocab_size = 262144;
  config.hidden_size = 5376;
  config.ffn_size = 21504;
  config.num_layers = 1;
  config.num_heads = 32;
  config.num_kv_heads = 16;
  config.head_dim = 128;
  config.layer_is_global = {true};
  for (const WeightFormat format :
       {WeightFormat::kInt4, WeightFormat::kInt8, WeightFormat::kBf16}) {
    for (const WeightPart part :
         {WeightPart::kEmbedding, WeightPart::kAttention, WeightPart::kFfn}) {
      const std::int32_t layer = part == WeightPart::kEmbedding ? -1 : 0;
      const std::vector<TensorId> ids = TensorsOf(config, part, layer);
      std::vector<WeightFormat> formats;
      for (const TensorId id : ids)
        formats.push_back(IsMatrix(id.kind) ? format : WeightFormat::kF32);
      const auto manifest = LayOutRegion(RegionName(part, layer), config, ids, formats);
      ASSERT_TRUE(manifest.ok()) << manifest.status();
      const auto windows = WindowsOf(*manifest, 64 * kMiB);
      ASSERT_TRUE(windows.ok()) << windows.status();
      // Hardly more than the region needs.
      EXPECT_LE(windows->size(), manifest->bytes / (62 * kMiB) + 2) << manifest->name;
      const auto layout = LayOutWeights(*manifest, 4096 * kMiB - 1, *windows);
      ASSERT_TRUE(layout.ok()) << layout.status();
      ExpectSound(*manifest, *layout, 4096 * kMiB - 1, 64 * kMiB);
    }
  }
}

TEST(WeightLayout, WindowsThatLeaveRowsOutAreRefused) {
  const RegionManifest manifest = Manifest();
  std::vector<ByteSpan> windows = *WindowsOf(manifest, kMiB);
  ASSERT_GT(windows.size(), 2u);
  windows.erase(windows.begin() + 1);
  EXPECT_EQ(LayOutWeights(manifest, 128 * kMiB, windows).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(WindowsOf(manifest, 256 * 1056 - 1).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(WeightLayout, RowsThatDoNotFitAreRefused) {
  const auto layout = LayOutWeights(Manifest(), 256 * 1056 - 1, *WindowsOf(Manifest(), 1ull << 31));
  ASSERT_EQ(layout.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(layout.status().message()), testing::HasSubstr("embedding"));
}

}  // namespace
}  // namespace tandem
