#include "lib/worker/measure_requests.h"

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/wire/cost_wire.h"
#include "lib/wire/model_wire.h"
#include "lib/worker/plan_part.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

absl::StatusOr<absl::Duration> ParseSeconds(double seconds, double most) {
  if (seconds > 0 && seconds <= most) return absl::Seconds(seconds);
  return absl::InvalidArgumentError(
      absl::StrCat("seconds: expected more than 0 and at most ", most, ", found ", seconds));
}

absl::StatusOr<StageTimerSpec> ParseStageTimerSpec(const v1::MeasureStagesRequest& request) {
  if (request.generation() == 0)
    return absl::InvalidArgumentError("generation: expected 1 or more, found 0");
  TANDEM_RETURN_IF_ERROR(ParseSeconds(request.seconds(), kLongestMeasureSeconds).status());
  StageTimerSpec spec;
  TANDEM_ASSIGN_OR_RETURN(spec.config, FromProto(request.config()));
  spec.first_layer = request.first_layer();
  spec.last_layer = request.last_layer();
  TANDEM_ASSIGN_OR_RETURN(spec.limits, FromProto(request.limits()));
  TANDEM_ASSIGN_OR_RETURN(spec.activations,
                          ParseEnum<ActivationType>("activations", request.activations()));
  TANDEM_ASSIGN_OR_RETURN(spec.kv_type, ParseEnum<KvType>("kv_type", request.kv_type()));
  if (request.points_size() > static_cast<int>(kMostCostPoints)) {
    return absl::InvalidArgumentError(absl::StrCat("points: expected at most ", kMostCostPoints,
                                                   ", found ", request.points_size()));
  }
  for (const v1::CostPoint& message : request.points()) {
    TANDEM_ASSIGN_OR_RETURN(const CostPoint point, FromProto(message));
    spec.points.push_back(point);
  }
  TANDEM_RETURN_IF_ERROR(ValidateStageTimerSpec(spec));
  return spec;
}

absl::StatusOr<MeasuredEdges> ParseMeasuredEdges(const v1::MeasureEdgesRequest& request,
                                                 const StageTimerSpec& spec) {
  TANDEM_RETURN_IF_ERROR(ParseSeconds(request.seconds(), kLongestMeasureSeconds).status());
  const auto& edges = request.edges();
  if (edges.size() != 2 || edges[0].from() != request.worker() ||
      edges[1].to() != request.worker() || edges[0].to() != edges[1].from() ||
      edges[0].to() == request.worker() || edges[0].id() == edges[1].id()) {
    return absl::InvalidArgumentError(
        absl::StrCat("edges: expected one from worker '", request.worker(),
                     "' to another and one back, found ", edges.size(), " that are not"));
  }
  MeasuredEdges measured;
  TANDEM_ASSIGN_OR_RETURN(measured.stage, ParseEnum<HandoverStage>("stage", request.stage()));
  const HandoverColumns columns = ColumnsOf(measured.stage, spec.config);
  EdgeBounds bounds{request.worker(), request.generation(), 1, spec.limits, columns.out};
  TANDEM_ASSIGN_OR_RETURN(measured.out, ParseEdgeEnd(edges[0], bounds));
  bounds.columns = columns.in;
  TANDEM_ASSIGN_OR_RETURN(measured.in, ParseEdgeEnd(edges[1], bounds));
  if (request.rounds().empty() || request.rounds_size() > static_cast<int>(kMostCostPoints)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rounds: expected 1 to ", kMostCostPoints, ", found ", request.rounds_size()));
  }
  for (const v1::HandoverRounds& message : request.rounds()) {
    if (message.rows() < 1 || message.rows() > spec.limits.max_tokens || message.rounds() < 1 ||
        message.rounds() > kMostHandoverRounds) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rounds: expected 1 to ", kMostHandoverRounds, " of 1 to ", spec.limits.max_tokens,
          " rows, found ", message.rounds(), " of ", message.rows()));
    }
    measured.rounds.push_back({message.rows(), message.rounds()});
  }
  return measured;
}

}  // namespace tandem
