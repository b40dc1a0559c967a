#include "lib/wire/cost_wire.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/step_limits.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

v1::CostPoint ToProto(const CostPoint& point) {
  v1::CostPoint message;
  message.set_tokens(point.tokens);
  message.set_context(point.context);
  return message;
}

absl::StatusOr<CostPoint> FromProto(const v1::CostPoint& message) {
  if (message.tokens() < 1 || message.tokens() > kMaxStepTokens || message.context() < 0 ||
      message.context() > kMaxContextTokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "point: expected 1 to ", kMaxStepTokens, " tokens behind 0 to ", kMaxContextTokens,
        ", found ", message.tokens(), " behind ", message.context()));
  }
  return CostPoint{message.tokens(), message.context()};
}

v1::StageCosts ToProto(const std::vector<StageCost>& costs) {
  v1::StageCosts message;
  for (const StageCost& cost : costs) {
    v1::StageCost& to = *message.add_costs();
    to.set_kind(std::string(NameOf(cost.kind)));
    *to.mutable_point() = ToProto(cost.point);
    to.set_seconds(cost.seconds);
  }
  return message;
}

absl::StatusOr<std::vector<StageCost>> FromProto(const v1::StageCosts& message) {
  constexpr int kMost = static_cast<int>(kMostCostPoints * kNumCostKinds);
  if (message.costs_size() > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("costs: expected at most ", kMost, ", found ", message.costs_size()));
  }
  std::vector<StageCost> costs;
  for (const v1::StageCost& from : message.costs()) {
    StageCost cost;
    TANDEM_ASSIGN_OR_RETURN(cost.kind, ParseEnum<CostKind>("kind of cost", from.kind()));
    TANDEM_ASSIGN_OR_RETURN(cost.point, FromProto(from.point()));
    cost.seconds = from.seconds();
    if (!std::isfinite(cost.seconds) || cost.seconds < 0 || cost.seconds > kLongestCostSeconds) {
      return absl::InvalidArgumentError(absl::StrCat(
          from.kind(), ": expected 0 to ", kLongestCostSeconds, " seconds, found ", cost.seconds));
    }
    costs.push_back(cost);
  }
  return costs;
}

}  // namespace tandem
