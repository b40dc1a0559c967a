#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/stage_cost.h"

namespace tandem::v1 {
class CostPoint;
class EdgeCosts;
class StageCosts;
}  // namespace tandem::v1

namespace tandem {

v1::CostPoint ToProto(const CostPoint& point);
absl::StatusOr<CostPoint> FromProto(const v1::CostPoint& message);

// INVALID_ARGUMENT where there are more than kMostCostPoints of each kind, a point that no step can
// have, or a time that is negative, no number or longer than kLongestCostSeconds.
v1::StageCosts ToProto(const std::vector<StageCost>& costs);
absl::StatusOr<std::vector<StageCost>> FromProto(const v1::StageCosts& message);

// INVALID_ARGUMENT where there are more than kMostCostPoints, rows that no step has, or such times.
v1::EdgeCosts ToProto(const EdgeCosts& costs);
absl::StatusOr<EdgeCosts> FromProto(const v1::EdgeCosts& message);

}  // namespace tandem
