#include "lib/weights/random_model.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/lib/weights/test_config.h"

namespace tandem {
namespace {

RandomModel Make(WeightFormat format, std::uint64_t seed) {
  absl::StatusOr<RandomModel> model = MakeRandomModel(SmallConfig(), format, seed);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

TEST(RandomModel, HasEveryRegionAndTensor) {
  const RandomModel model = Make(WeightFormat::kInt4, 5);
  EXPECT_EQ(model.regions.size(), 5u);
  for (const TensorId id : AllTensors(SmallConfig())) {
    const auto it = model.regions.find(RegionName(PartOf(id.kind), id.layer));
    ASSERT_NE(it, model.regions.end());
    EXPECT_TRUE(it->second->Find(id).ok()) << TensorName(id);
  }
}

TEST(RandomModel, SameSeedSameBytesOtherSeedOtherBytes) {
  const auto checksum = [](const RandomModel& m) {
    return m.regions.at("layer.1.ffn")->manifest().tensors[1].checksum;
  };
  EXPECT_EQ(checksum(Make(WeightFormat::kInt8, 5)), checksum(Make(WeightFormat::kInt8, 5)));
  EXPECT_NE(checksum(Make(WeightFormat::kInt8, 5)), checksum(Make(WeightFormat::kInt8, 6)));
}

TEST(RandomModel, ValuesAreTheRowsWithinTheFormatsError) {
  const TensorId id{TensorKind::kFfnDown, 0};
  std::vector<float> row(160), found(160);
  RandomRow(SmallConfig(), 5, id, 3, row);
  const struct {
    WeightFormat format;
    float error;
  } cases[] = {
      {WeightFormat::kBf16, 0.002f}, {WeightFormat::kInt8, 0.002f}, {WeightFormat::kInt4, 0.03f}};
  for (const auto& c : cases) {
    const RandomModel model = Make(c.format, 5);
    DequantizeRow(*model.regions.at("layer.0.ffn")->Find(id), 3, found);
    double largest = 0, power = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      largest = std::max<double>(largest, std::fabs(found[i] - row[i]));
      power += row[i] * row[i];
    }
    EXPECT_LT(largest, c.error);
    EXPECT_GT(largest, 0);
    EXPECT_NEAR(power, 1.0, 0.4);  // 160 values of variance 1/160
  }
}

TEST(RandomModel, RefusesAFormatThatDoesNotFit) {
  ModelConfig config = SmallConfig();
  config.ffn_size = 100;
  EXPECT_EQ(MakeRandomModel(config, WeightFormat::kInt8, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(MakeRandomModel(config, WeightFormat::kBf16, 1).ok());
}

}  // namespace
}  // namespace tandem
