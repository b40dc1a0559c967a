#include "lib/weights/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/huge_pages.h"
#include "lib/weights/make_region.h"
#include "tests/unit/lib/weights/test_config.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

RegionManifest FfnManifest(WeightFormat format) {
  const std::vector<TensorId> ids = TensorsOf(SmallConfig(), WeightPart::kFfn, 1);
  std::vector<WeightFormat> formats;
  for (const TensorId id : ids) formats.push_back(IsMatrix(id.kind) ? format : WeightFormat::kF32);
  const absl::StatusOr<RegionManifest> manifest =
      LayOutRegion("layer.1.ffn", SmallConfig(), ids, formats);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  return *manifest;
}

SealedRegion SealedFfn(WeightFormat format) {
  absl::StatusOr<RegionBuilder> builder =
      RegionBuilder::Create(FfnManifest(format), /*huge_pages=*/false);
  EXPECT_TRUE(builder.ok());
  builder->values(1)[7] = std::byte{42};
  absl::StatusOr<SealedRegion> sealed = (*std::move(builder)).Finish();
  EXPECT_TRUE(sealed.ok()) << sealed.status();
  return *std::move(sealed);
}

TEST(LayOutRegion, PlanesAreAlignedInOrderAndDoNotOverlap) {
  for (const WeightFormat format :
       {WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    const RegionManifest manifest = FfnManifest(format);
    EXPECT_TRUE(ValidateManifest(manifest, SmallConfig()).ok());
    ASSERT_EQ(manifest.tensors.size(), 5u);
    EXPECT_EQ(manifest.tensors[0].format, WeightFormat::kF32);
    EXPECT_EQ(manifest.tensors[1].format, format);
    EXPECT_EQ(manifest.bytes % 4096, 0u);
  }
  const TensorEntry gate = FfnManifest(WeightFormat::kInt4).tensors[1];
  EXPECT_EQ(gate.value_offset, 4096u);
  EXPECT_EQ(gate.value_bytes, 160u * 96 / 2);
  EXPECT_EQ(gate.scale_offset, 4096u + 8192);
  EXPECT_EQ(gate.scale_bytes, 160u * 96 / 32 * 2);
}

TEST(LayOutRegion, RefusesWhatCannotBe) {
  ModelConfig config = SmallConfig();
  config.hidden_size = 100;
  const std::vector<TensorId> ids = TensorsOf(config, WeightPart::kEmbedding, -1);
  const auto error = [&](const std::vector<WeightFormat>& formats) {
    return std::string(LayOutRegion("embedding", config, ids, formats).status().message());
  };
  EXPECT_THAT(
      error({WeightFormat::kInt8, WeightFormat::kF32}),
      HasSubstr(
          "tensor 'embedding': int8: expected a row length that is a multiple of 32, found 100"));
  EXPECT_EQ(error({WeightFormat::kBf16, WeightFormat::kF32}), "");
  EXPECT_THAT(error({WeightFormat::kBf16, WeightFormat::kBf16}),
              HasSubstr("tensor 'final_norm': expected format f32, found bf16"));
  EXPECT_THAT(error({WeightFormat::kF32, WeightFormat::kF32}),
              HasSubstr("expected format bf16, int8 or int4, found f32"));
}

struct Breakage {
  const char* name;
  std::function<void(RegionManifest&)> change;
  const char* expected;
};

class ValidateManifestBad : public ::testing::TestWithParam<Breakage> {};

TEST_P(ValidateManifestBad, IsRefused) {
  RegionManifest manifest = FfnManifest(WeightFormat::kInt8);
  GetParam().change(manifest);
  const absl::Status status = ValidateManifest(manifest, SmallConfig());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    All, ValidateManifestBad,
    ::testing::Values(
        Breakage{"name", [](RegionManifest& m) { m.name = "layer.2.ffn"; },
                 "region 'layer.2.ffn': expected a region of a model"},
        Breakage{"other_part", [](RegionManifest& m) { m.name = "embedding"; },
                 "expected 2 tensors, found 5"},
        Breakage{"other_layer", [](RegionManifest& m) { m.name = "layer.0.ffn"; },
                 "expected a tensor of this region"},
        Breakage{"missing", [](RegionManifest& m) { m.tensors.pop_back(); },
                 "expected 5 tensors, found 4"},
        Breakage{"twice", [](RegionManifest& m) { m.tensors[2] = m.tensors[1]; },
                 "expected once, found twice"},
        Breakage{"shape", [](RegionManifest& m) { m.tensors[1].shape.rows = 161; },
                 "expected shape (160, 96), found (161, 96)"},
        Breakage{"format", [](RegionManifest& m) { m.tensors[1].format = WeightFormat::kInt4; },
                 "value plane: expected"},
        Breakage{"unaligned", [](RegionManifest& m) { m.tensors[1].value_offset += 16; },
                 "multiple of 4096"},
        Breakage{"overlap", [](RegionManifest& m) { m.tensors[1].value_offset = 0; },
                 "and at least 384, found 0"},
        Breakage{"outside", [](RegionManifest& m) { m.tensors[4].value_offset = m.bytes; },
                 "inside the region's"},
        Breakage{"far_outside",
                 [](RegionManifest& m) { m.tensors[4].value_offset = ~std::uint64_t{4095}; },
                 "inside the region's"},
        Breakage{"size", [](RegionManifest& m) { m.tensors[1].value_bytes -= 1; },
                 "value plane: expected 15360 bytes, found 15359"},
        Breakage{"scales", [](RegionManifest& m) { m.tensors[0].scale_offset = 4096; },
                 "offset 0 for no bytes"},
        Breakage{"empty", [](RegionManifest& m) { m.bytes = 0; }, "found 0"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Region, OpensWhatTheBuilderSealed) {
  SealedRegion sealed = SealedFfn(WeightFormat::kInt8);
  const absl::StatusOr<std::shared_ptr<const Region>> region =
      Region::Open(std::move(sealed.fd), sealed.manifest, SmallConfig(), /*verify_checksums=*/true);
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_EQ((*region)->bytes().size(), sealed.manifest.bytes);
  const absl::StatusOr<TensorView> gate = (*region)->Find({TensorKind::kFfnGate, 1});
  ASSERT_TRUE(gate.ok());
  EXPECT_EQ(gate->values[7], std::byte{42});
  EXPECT_EQ(gate->values.size(), 160u * 96);
  EXPECT_EQ(gate->scales.size(), 160u * 6);
  EXPECT_EQ((*region)->Find({TensorKind::kFfnGate, 0}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(Region, SealedPagesCannotBeWritten) {
  const SealedRegion sealed = SealedFfn(WeightFormat::kBf16);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, sealed.fd.get(), 0),
            MAP_FAILED);
  EXPECT_NE(::ftruncate(sealed.fd.get(), 4096), 0);
  // udmabuf takes it: sealed in size, and for good, but not against writing.
  EXPECT_EQ(::fcntl(sealed.fd.get(), F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

TEST(Region, WhatWasWrittenToAfterwardsIsFound) {
  const SealedRegion sealed = SealedFfn(WeightFormat::kInt8);
  const std::string path = "/proc/self/fd/" + std::to_string(sealed.fd.get());
  const UniqueFd writable(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(writable.valid());
  const auto offset = static_cast<off_t>(sealed.manifest.tensors[1].value_offset);
  ASSERT_EQ(::pwrite(writable.get(), "x", 1, offset), 1);
  const Mapping view = *Mapping::Map(sealed.fd.get(), sealed.manifest.bytes, false);
  EXPECT_EQ(VerifyChecksums(sealed.manifest, {view.data(), view.size()}).code(),
            absl::StatusCode::kDataLoss);
}

TEST(Region, LargeOnesAreInHugePagesWhereTheKernelMakesThem) {
  const SharedMemory trial = *SharedMemory::Create("trial", kHugePageBytes);
  const bool makes_them = MakeHugePages({trial.mapping.data(), trial.mapping.size()}) > 0;
  ModelConfig config = SmallConfig();
  config.hidden_size = 1024;
  config.ffn_size = 4096;
  const std::vector<TensorId> ids = TensorsOf(config, WeightPart::kFfn, 1);
  std::vector<WeightFormat> formats;
  for (const TensorId id : ids)
    formats.push_back(IsMatrix(id.kind) ? WeightFormat::kInt8 : WeightFormat::kF32);
  RegionBuilder builder =
      *RegionBuilder::Create(*LayOutRegion("layer.1.ffn", config, ids, formats), true);
  for (std::size_t piece = 0; piece < builder.pieces(); ++piece) builder.MakeHugePages(piece);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (const std::span<std::byte> plane : {builder.values(i), builder.scales(i)}) {
      std::fill(plane.begin(), plane.end(), static_cast<std::byte>(i + 1));
    }
  }
  SealedRegion sealed = *std::move(builder).Finish();
  EXPECT_GE(sealed.manifest.bytes, 6 * kHugePageBytes);
  // Reserved ones are there even where the kernel makes none.
  EXPECT_GE(sealed.huge_bytes, makes_them ? 6 * kHugePageBytes : 0);
  const auto region = Region::Open(std::move(sealed.fd), sealed.manifest, config, true);
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*region)->bytes().data()) % kHugePageBytes, 0u);
  EXPECT_EQ((*region)->Find({TensorKind::kFfnGate, 1})->values.back(), std::byte{2});
}

TEST(Region, WindowsMustLieInsideInOrder) {
  RegionManifest manifest = FfnManifest(WeightFormat::kInt8);
  const auto valid = [&](std::vector<ByteSpan> windows) {
    manifest.windows = std::move(windows);
    return ValidateManifest(manifest, SmallConfig()).ok();
  };
  EXPECT_TRUE(valid({{0, 8192}, {4096, 4096}}));
  EXPECT_FALSE(valid({{0, 100}}));
  EXPECT_FALSE(valid({{100, 4096}}));
  EXPECT_FALSE(valid({{0, 0}}));
  EXPECT_FALSE(valid({{4096, 4096}, {0, 4096}}));
  EXPECT_FALSE(valid({{manifest.bytes, 4096}}));
  EXPECT_FALSE(valid({{4096, ~std::uint64_t{0} / 4096 * 4096}}));
}

TEST(Region, WindowsThatAreNotDmaBufsAreRefused) {
  SealedRegion sealed = SealedFfn(WeightFormat::kInt8);
  sealed.manifest.windows = {{0, 4096}};
  std::vector<UniqueFd> windows;
  windows.emplace_back(::fcntl(sealed.fd.get(), F_DUPFD_CLOEXEC, 0));
  const auto region =
      Region::Open(std::move(sealed.fd), sealed.manifest, SmallConfig(), false, std::move(windows));
  EXPECT_THAT(std::string(region.status().message()), HasSubstr("expected a dma-buf"));
}

TEST(Region, ChecksumFindsOneChangedByte) {
  SealedRegion sealed = SealedFfn(WeightFormat::kInt8);
  sealed.manifest.tensors[2].checksum ^= 1;
  const auto region =
      Region::Open(std::move(sealed.fd), sealed.manifest, SmallConfig(), /*verify_checksums=*/true);
  EXPECT_EQ(region.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(region.status().message()),
              HasSubstr("tensor 'layers.1.ffn.up': expected checksum"));
  EXPECT_NE(TensorChecksum(std::as_bytes(std::span("ab", 2)), {}),
            TensorChecksum({}, std::as_bytes(std::span("ab", 2))));
}

TEST(Region, RefusesUnsealedShortOrOtherFiles) {
  const RegionManifest manifest = FfnManifest(WeightFormat::kInt8);
  const auto open = [&](UniqueFd fd) {
    return std::string(
        Region::Open(std::move(fd), manifest, SmallConfig(), false).status().message());
  };
  absl::StatusOr<SharedMemory> unsealed = SharedMemory::Create("test", manifest.bytes);
  ASSERT_TRUE(unsealed.ok());
  EXPECT_THAT(open(std::move(unsealed->fd)), HasSubstr("sealed against shrinking"));
  absl::StatusOr<SharedMemory> small = SharedMemory::Create("test", 4096);
  ASSERT_TRUE(small.ok());
  small->mapping = Mapping();
  ASSERT_TRUE(SealForGood(small->fd.get()).ok());
  EXPECT_THAT(open(std::move(small->fd)), HasSubstr("expected at least"));
  EXPECT_THAT(open(UniqueFd(::open("/proc/self/exe", O_RDONLY))), HasSubstr("expected a memfd"));
}

TEST(WeightFormat, NamesParseBack) {
  for (const WeightFormat f :
       {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    EXPECT_EQ(*ParseWeightFormat(WeightFormatName(f)), f);
  }
  EXPECT_FALSE(ParseWeightFormat("fp8").ok());
  EXPECT_FALSE(PlaneSizesOf(WeightFormat::kBf16, {0, 4}).ok());
  EXPECT_FALSE(
      PlaneSizesOf(WeightFormat::kBf16, {std::int64_t{1} << 40, std::int64_t{1} << 40}).ok());
}

}  // namespace
}  // namespace tandem
