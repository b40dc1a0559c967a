#include "gateway/dispatch/step_model.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

std::size_t IndexOf(CostKind kind) { return static_cast<std::size_t>(kind); }

double Line(double x, double x0, double y0, double x1, double y1) {
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

// Seconds of each further token that a token sees, where two contexts were measured; else 0.
template <typename Seen>
double ContextSlope(const std::vector<StageCost>& costs, CostKind kind, const Seen& seen) {
  const StageCost* least = nullptr;
  const StageCost* most = nullptr;
  for (const StageCost& cost : costs) {
    if (cost.kind != kind || cost.point.tokens != 1) continue;
    if (least == nullptr || cost.point.context < least->point.context) least = &cost;
    if (most == nullptr || cost.point.context > most->point.context) most = &cost;
  }
  if (least == nullptr || seen(least->point.context) == seen(most->point.context)) return 0;
  return std::max(0.0, (most->seconds - least->seconds) /
                           (seen(most->point.context) - seen(least->point.context)));
}

}  // namespace

StepModel::StepModel(ModelConfig config, std::vector<WorkerCosts> workers,
                     std::vector<PairCosts> pairs)
    : config_(std::move(config)), workers_(std::move(workers)), pairs_(std::move(pairs)) {}

absl::StatusOr<double> StepModel::CostOf(std::string_view worker, CostKind kind,
                                         const CostPoint& point) const {
  const auto found = std::find_if(workers_.begin(), workers_.end(),
                                  [&](const WorkerCosts& w) { return w.worker == worker; });
  if (found == workers_.end() || !found->error.empty()) {
    return absl::NotFoundError(
        absl::StrCat(std::string(worker), " has measured nothing",
                     found == workers_.end() || found->error.empty() ? "" : ": ",
                     found == workers_.end() ? "" : found->error));
  }
  const bool attends = kind == CostKind::kLocalAttention || kind == CostKind::kGlobalAttention ||
                       kind == CostKind::kLocalAttend || kind == CostKind::kGlobalAttend;
  // What a query sees at most.
  const auto seen = [&](std::int32_t context) {
    const bool local = kind == CostKind::kLocalAttention || kind == CostKind::kLocalAttend;
    return local ? std::min(context, config_.sliding_window) : context;
  };
  const double slope = attends ? ContextSlope(found->costs, kind, seen) : 0;
  // By tokens, at the context of the question.
  std::map<std::int32_t, double> by_tokens;
  for (const StageCost& cost : found->costs) {
    if (cost.kind != kind) continue;
    const double more =
        slope * cost.point.tokens * (seen(point.context) - seen(cost.point.context));
    const double seconds = std::max(0.0, cost.seconds + more);
    const auto [entry, added] = by_tokens.emplace(cost.point.tokens, seconds);
    if (!added) entry->second = (entry->second + seconds) / 2;
  }
  if (by_tokens.empty()) {
    return absl::NotFoundError(
        absl::StrCat(std::string(worker), " has no time for '", std::string(NameOf(kind)), "'"));
  }
  const double tokens = point.tokens;
  const auto above = by_tokens.lower_bound(point.tokens);
  if (above != by_tokens.end() && (above->first == point.tokens || above == by_tokens.begin()))
    return above->second;
  if (by_tokens.size() == 1) return by_tokens.begin()->second * tokens / by_tokens.begin()->first;
  const auto right = above == by_tokens.end() ? std::prev(above) : above;
  const auto left = std::prev(right);
  const double line = Line(tokens, left->first, left->second, right->first, right->second);
  return above == by_tokens.end() ? std::max(line, right->second) : line;
}

std::vector<StepModel::Segment> StepModel::SegmentsOf(
    const std::vector<StagePlacement>& route) const {
  std::vector<Segment> segments;
  for (const StagePlacement& stage : route) {
    if (segments.empty() || segments.back().worker != stage.worker)
      segments.push_back({stage.worker, {}});
    Segment& segment = segments.back();
    const auto add = [&](CostKind kind, double count) { segment.counts[IndexOf(kind)] += count; };
    if (stage.part == StagePart::kEmbed) add(CostKind::kEmbed, 1);
    if (stage.part == StagePart::kHead) add(CostKind::kHead, 1);
    segment.parts += stage.part == StagePart::kEmbed ? 1 : 0;
    for (std::int32_t layer = stage.first_layer; layer < stage.last_layer; ++layer) {
      const bool global = config_.layer_is_global[static_cast<std::size_t>(layer)];
      const CostKind whole = global ? CostKind::kGlobalAttention : CostKind::kLocalAttention;
      const CostKind alone = global ? CostKind::kGlobalAttend : CostKind::kLocalAttend;
      switch (stage.part) {
        case StagePart::kAttend:
          add(alone, 1);
          break;
        case StagePart::kQkv:
        case StagePart::kOutput:
          // About as many weights in both. What a submission costs goes out with the difference.
          add(whole, 0.5);
          add(alone, -0.5);
          --segment.parts;
          break;
        case StagePart::kFfn:
          add(CostKind::kFfn, 1);
          break;
        case StagePart::kBoth:
          add(CostKind::kFfn, 1);
          ++segment.parts;
          [[fallthrough]];
        default:
          add(whole, 1);
      }
      ++segment.parts;
    }
  }
  return segments;
}

absl::StatusOr<double> StepModel::SegmentSeconds(const Segment& segment, const CostPoint& point,
                                                 bool samples) const {
  double sum = 0;
  const bool head = segment.counts[IndexOf(CostKind::kHead)] > 0 && samples;
  const std::int32_t parts = segment.parts + (head ? 1 : 0);
  for (const CostKind kind :
       {CostKind::kEmbed, CostKind::kLocalAttention, CostKind::kGlobalAttention, CostKind::kFfn,
        CostKind::kLocalAttend, CostKind::kGlobalAttend, CostKind::kHead}) {
    const double count = segment.counts[IndexOf(kind)];
    if (count == 0 || (kind == CostKind::kHead && !head)) continue;
    TANDEM_ASSIGN_OR_RETURN(const double seconds, CostOf(segment.worker, kind, point));
    sum += count * seconds;
  }
  sum = std::max(0.0, sum);
  if (parts == 1 || sum == 0) return sum;
  TANDEM_ASSIGN_OR_RETURN(const double submission,
                          CostOf(segment.worker, CostKind::kSubmission, point));
  return std::max(0.0, sum - (parts - 1) * submission);
}

PairCosts StepModel::Between(const std::string& a, const std::string& b) const {
  for (const PairCosts& pair : pairs_) {
    if ((pair.first == a && pair.second == b) || (pair.first == b && pair.second == a)) return pair;
  }
  return {};
}

absl::StatusOr<StepPrediction> StepModel::Predict(const std::vector<StagePlacement>& route,
                                                  const StepShape& shape) const {
  const std::vector<Segment> segments = SegmentsOf(route);
  const auto count = static_cast<std::size_t>(std::max(1, shape.micro_batches));
  std::vector<CostPoint> parts;
  for (std::size_t i = 0; i < count; ++i) {
    const auto end = [&](std::size_t index) {
      return static_cast<std::int32_t>(shape.point.tokens * static_cast<std::int64_t>(index) /
                                       static_cast<std::int64_t>(count));
    };
    if (end(i + 1) == end(i)) continue;
    parts.push_back({end(i + 1) - end(i), shape.point.context + end(i)});
  }
  // When each worker is free, and when each micro-batch has come so far.
  std::map<std::string, double> free;
  std::vector<double> ready(parts.size());
  double all = 0;
  double slowdown = 1;
  const bool cut = std::any_of(route.begin(), route.end(), [](const StagePlacement& stage) {
    return stage.part == StagePart::kAttend;
  });
  StepPrediction prediction;
  for (std::size_t s = 0; s < segments.size(); ++s) {
    const std::string& worker = segments[s].worker;
    const bool crosses = s > 0;
    const PairCosts pair = crosses ? Between(segments[s - 1].worker, worker) : PairCosts();
    slowdown = std::max(slowdown, pair.slowdown);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      if (!free.contains(worker) || s == 0) {
        // All workers take a step at the same time.
        TANDEM_ASSIGN_OR_RETURN(const double begin, CostOf(worker, CostKind::kBegin, parts[part]));
        free[worker] += begin;
        all += s == 0 ? begin : 0;
      }
      const bool samples = shape.samples && part + 1 == parts.size();
      TANDEM_ASSIGN_OR_RETURN(const double seconds,
                              SegmentSeconds(segments[s], parts[part], samples));
      const HopCosts& costs = cut ? pair.cut_hop : pair.hop;
      const double hop = crosses ? costs.seconds + costs.row_seconds * parts[part].tokens : 0;
      prediction.hops += crosses ? 1 : 0;
      prediction.hop_rows += crosses ? parts[part].tokens : 0;
      const double start = std::max(free[worker], ready[part] + hop);
      free[worker] = ready[part] = start + seconds;
      all += hop + seconds;
    }
  }
  const double at_once = *std::max_element(ready.begin(), ready.end());
  prediction.seconds = at_once + std::max(0.0, all - at_once) * (std::min(slowdown, 2.0) - 1);
  return prediction;
}

absl::StatusOr<HopCosts> TakeHandovers(const EdgeCosts& first, const EdgeCosts& second) {
  const auto same = [](const HandoverCost& a, const HandoverCost& b) { return a.rows == b.rows; };
  if (first.costs.empty() || first.kind != second.kind ||
      !std::equal(first.costs.begin(), first.costs.end(), second.costs.begin(), second.costs.end(),
                  same)) {
    return absl::InvalidArgumentError("the two workers have measured different hand-overs");
  }
  // By rows.
  std::map<std::int32_t, double> seconds;
  for (std::size_t i = 0; i < first.costs.size(); ++i) {
    const HandoverCost& a = first.costs[i];
    const HandoverCost& b = second.costs[i];
    const double round = std::min(a.round_seconds, b.round_seconds);
    seconds[a.rows] = std::max(0.0, round - a.stage_seconds - b.stage_seconds) / 2;
  }
  const auto fewest = *seconds.begin();
  const auto most = *seconds.rbegin();
  HopCosts hop;
  if (most.first > fewest.first) {
    hop.row_seconds = std::max(0.0, most.second - fewest.second) / (most.first - fewest.first);
  }
  hop.seconds = std::max(0.0, fewest.second - fewest.first * hop.row_seconds);
  return hop;
}

}  // namespace tandem
