#include "lib/wire/weights_wire.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

ModelConfig SmallConfig() {
  ModelConfig c;
  c.vocab_size = 100;
  c.hidden_size = 64;
  c.ffn_size = 96;
  c.num_layers = 2;
  c.num_heads = 2;
  c.num_kv_heads = 1;
  c.head_dim = 32;
  return c;
}

RegionManifest Manifest() {
  const std::vector<TensorId> ids = TensorsOf(SmallConfig(), WeightPart::kAttention, 1);
  std::vector<WeightFormat> formats;
  for (const TensorId id : ids)
    formats.push_back(IsMatrix(id.kind) ? WeightFormat::kInt4 : WeightFormat::kF32);
  auto manifest = LayOutRegion("layer.1.attention", SmallConfig(), ids, formats);
  EXPECT_TRUE(manifest.ok());
  for (TensorEntry& entry : manifest->tensors)
    entry.checksum = 0xfedcba9876543210u + entry.value_offset;
  return *manifest;
}

TEST(WeightsWire, RoundTrips) {
  const RegionManifest before = Manifest();
  const auto after = FromProto(ToProto(before), SmallConfig());
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->name, before.name);
  EXPECT_EQ(after->bytes, before.bytes);
  ASSERT_EQ(after->tensors.size(), before.tensors.size());
  for (std::size_t i = 0; i < before.tensors.size(); ++i) {
    const TensorEntry &a = before.tensors[i], &b = after->tensors[i];
    EXPECT_EQ(a.id, b.id);
    EXPECT_EQ(a.shape, b.shape);
    EXPECT_EQ(a.format, b.format);
    EXPECT_EQ(a.value_offset, b.value_offset);
    EXPECT_EQ(a.value_bytes, b.value_bytes);
    EXPECT_EQ(a.scale_offset, b.scale_offset);
    EXPECT_EQ(a.scale_bytes, b.scale_bytes);
    EXPECT_EQ(a.checksum, b.checksum);
  }
}

TEST(WeightsWire, NothingUncheckedGetsPast) {
  const auto error = [](const auto& change) {
    v1::RegionManifest message = ToProto(Manifest());
    change(message);
    return std::string(FromProto(message, SmallConfig()).status().message());
  };
  EXPECT_THAT(error([](auto& m) { m.mutable_tensors(1)->set_name("layers.1.other"); }),
              HasSubstr("expected a tensor's name, found 'layers.1.other'"));
  EXPECT_THAT(error([](auto& m) { m.mutable_tensors(1)->set_format("fp8"); }),
              HasSubstr("found 'fp8'"));
  EXPECT_THAT(error([](auto& m) { m.mutable_tensors(1)->set_rows(7); }),
              HasSubstr("expected shape (64, 64), found (7, 64)"));
  EXPECT_THAT(error([](auto& m) { m.mutable_tensors(1)->set_value_offset(1); }),
              HasSubstr("found 1"));
  EXPECT_THAT(error([](auto& m) { m.clear_tensors(); }), HasSubstr("expected 8 tensors, found 0"));
}

}  // namespace
}  // namespace tandem
