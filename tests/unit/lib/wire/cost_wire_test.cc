#include "lib/wire/cost_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(CostWire, CarriesCosts) {
  std::vector<StageCost> costs;
  for (const auto& entry : kEnumNames<CostKind>) costs.push_back({entry.value, {8, 512}, 0.25});
  const auto read = FromProto(ToProto(costs));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, costs);
}

TEST(CostWire, RefusesWhatNobodyCanHaveMeasured) {
  const auto refused = [](const StageCost& cost) {
    return std::string(FromProto(ToProto(std::vector<StageCost>{cost})).status().message());
  };
  EXPECT_EQ(refused({CostKind::kFfn, {1, 0}, 0}), "");
  EXPECT_THAT(refused({CostKind::kFfn, {0, 0}, 1}), HasSubstr("found 0 behind 0"));
  EXPECT_THAT(refused({CostKind::kFfn, {4097, 0}, 1}), HasSubstr("found 4097"));
  EXPECT_THAT(refused({CostKind::kFfn, {1, -1}, 1}), HasSubstr("behind -1"));
  EXPECT_THAT(refused({CostKind::kFfn, {1, 1 << 21}, 1}), HasSubstr("point"));
  EXPECT_THAT(refused({CostKind::kHead, {1, 0}, -1}), HasSubstr("head: expected 0 to 3600"));
  EXPECT_THAT(refused({CostKind::kHead, {1, 0}, std::nan("")}), HasSubstr("head"));
  EXPECT_THAT(refused({CostKind::kHead, {1, 0}, std::numeric_limits<double>::infinity()}),
              HasSubstr("head"));
  v1::StageCosts unknown;
  unknown.add_costs()->set_kind("tail");
  EXPECT_THAT(FromProto(unknown).status().message(), HasSubstr("found 'tail'"));
  const std::vector<StageCost> many(kMostCostPoints * kNumCostKinds + 1,
                                    {CostKind::kFfn, {1, 0}, 1});
  EXPECT_THAT(FromProto(ToProto(many)).status().message(), HasSubstr("costs: expected at most"));
}

TEST(CostWire, TimesOfAnEdgeAreReadAsTheyWereWritten) {
  const EdgeCosts costs{HandleKind::kHostPointer, {{1, 0.25, 0.125}, {128, 2, 1}}};
  const auto read = FromProto(ToProto(costs));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, costs);
  const auto refused = [](const HandoverCost& cost) {
    return std::string(
        FromProto(ToProto(EdgeCosts{HandleKind::kInline, {cost}})).status().message());
  };
  EXPECT_THAT(refused({0, 1, 1}), HasSubstr("rows: expected 1 to"));
  EXPECT_THAT(refused({1, -1, 1}), HasSubstr("round_seconds"));
  EXPECT_THAT(refused({1, 1, std::nan("")}), HasSubstr("stage_seconds"));
  v1::EdgeCosts message = ToProto(costs);
  message.set_kind("pigeon");
  EXPECT_THAT(FromProto(message).status().message(), HasSubstr("found 'pigeon'"));
  const EdgeCosts many{HandleKind::kInline,
                       std::vector<HandoverCost>(kMostCostPoints + 1, {1, 1, 1})};
  EXPECT_THAT(FromProto(ToProto(many)).status().message(), HasSubstr("costs: expected at most"));
}

}  // namespace
}  // namespace tandem
