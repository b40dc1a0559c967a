#include "lib/wire/cost_wire.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/step_limits.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

absl::Status CheckSeconds(std::string_view what, double seconds) {
  if (std::isfinite(seconds) && seconds >= 0 && seconds <= kLongestCostSeconds)
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(what), ": expected 0 to ",
                                                 kLongestCostSeconds, " seconds, found ", seconds));
}

}  // namespace

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
    TANDEM_RETURN_IF_ERROR(CheckSeconds(from.kind(), cost.seconds));
    costs.push_back(cost);
  }
  return costs;
}

v1::EdgeCosts ToProto(const EdgeCosts& costs) {
  v1::EdgeCosts message;
  message.set_kind(std::string(NameOf(costs.kind)));
  for (const HandoverCost& cost : costs.costs) {
    v1::HandoverCost& to = *message.add_costs();
    to.set_rows(cost.rows);
    to.set_round_seconds(cost.round_seconds);
    to.set_stage_seconds(cost.stage_seconds);
  }
  return message;
}

absl::StatusOr<EdgeCosts> FromProto(const v1::EdgeCosts& message) {
  if (message.costs_size() > static_cast<int>(kMostCostPoints)) {
    return absl::InvalidArgumentError(absl::StrCat("costs: expected at most ", kMostCostPoints,
                                                   ", found ", message.costs_size()));
  }
  EdgeCosts costs;
  TANDEM_ASSIGN_OR_RETURN(costs.kind, ParseEnum<HandleKind>("kind of edge", message.kind()));
  for (const v1::HandoverCost& from : message.costs()) {
    if (from.rows() < 1 || from.rows() > kMaxStepTokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("rows: expected 1 to ", kMaxStepTokens, ", found ", from.rows()));
    }
    TANDEM_RETURN_IF_ERROR(CheckSeconds("round_seconds", from.round_seconds()));
    TANDEM_RETURN_IF_ERROR(CheckSeconds("stage_seconds", from.stage_seconds()));
    costs.costs.push_back({from.rows(), from.round_seconds(), from.stage_seconds()});
  }
  return costs;
}

}  // namespace tandem
