#include "loader/read/source_type.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "loader/read/input_file.h"
#include "loader/read/safetensors.h"

namespace tandem {
namespace {

// Blocks and values made by another implementation (tools/golden/make_block_vectors.py).
class BlockVectors : public ::testing::TestWithParam<SourceType> {};

TEST_P(BlockVectors, ValuesAreThoseOfTheReference) {
  const auto file = InputFile::Open("tests/unit/loader/data/block_vectors.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto entries = ReadSafetensorsHeader(*file);
  ASSERT_TRUE(entries.ok()) << entries.status();
  std::vector<std::byte> blocks;
  std::vector<float> values;
  for (const SafetensorsEntry& entry : *entries) {
    const std::string type(SourceTypeName(GetParam()));
    if (entry.name == type + ".blocks") {
      blocks.resize(entry.bytes);
      ASSERT_TRUE(file->ReadAt(entry.offset, blocks).ok());
    } else if (entry.name == type + ".values") {
      values.resize(entry.bytes / 4);
      ASSERT_TRUE(file->ReadAt(entry.offset, std::as_writable_bytes(std::span(values))).ok());
    }
  }
  ASSERT_FALSE(values.empty());
  ASSERT_EQ(blocks.size(), RowBytesOf(GetParam(), static_cast<std::int64_t>(values.size())));
  std::vector<float> found(values.size());
  DequantizeSource(GetParam(), blocks, found);
  for (std::size_t i = 0; i < values.size(); ++i) {
    // d * scale * q - dmin * min may be contracted to one rounding in one of the two.
    EXPECT_NEAR(found[i], values[i], std::fabs(values[i]) * 1e-6 + 1e-7) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, BlockVectors,
                         ::testing::Values(SourceType::kQ8_0, SourceType::kQ5_0, SourceType::kQ4_0,
                                           SourceType::kQ4K, SourceType::kQ5K, SourceType::kQ6K),
                         [](const auto& info) { return std::string(SourceTypeName(info.param)); });

TEST(DequantizeSource, PlainTypes) {
  const float f32[2] = {1.5f, -3e-20f};
  const std::uint16_t f16[2] = {0x3e00, 0xc000};
  const std::uint16_t bf16[2] = {0x3fc0, 0xc000};
  std::vector<float> out(2);
  DequantizeSource(SourceType::kF32, std::as_bytes(std::span(f32)), out);
  EXPECT_EQ(out, (std::vector<float>{1.5f, -3e-20f}));
  DequantizeSource(SourceType::kF16, std::as_bytes(std::span(f16)), out);
  EXPECT_EQ(out, (std::vector<float>{1.5f, -2.0f}));
  DequantizeSource(SourceType::kBf16, std::as_bytes(std::span(bf16)), out);
  EXPECT_EQ(out, (std::vector<float>{1.5f, -2.0f}));
}

// All 65,536 halves against the scalar conversion.
TEST(DequantizeSource, EveryHalf) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> out(halves.size());
  DequantizeSource(SourceType::kF16, std::as_bytes(std::span(halves)), out);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float expected = HalfToFloat(halves[i]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(out[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST(SourceType, RowBytes) {
  EXPECT_EQ(RowBytesOf(SourceType::kF32, 100), 400u);
  EXPECT_EQ(RowBytesOf(SourceType::kQ4_0, 64), 36u);
  EXPECT_EQ(RowBytesOf(SourceType::kQ6K, 512), 420u);
}

}  // namespace
}  // namespace tandem
