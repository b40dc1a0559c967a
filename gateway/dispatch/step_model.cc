#include "gateway/dispatch/step_model.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/step_limits.h"

namespace tandem {
namespace {

// Layers are measured until their weights are more than a processor's caches hold.
constexpr std::uint64_t kManyWeightBytes = std::uint64_t{256} << 20;

std::size_t IndexOf(CostKind kind) { return static_cast<std::size_t>(kind); }

double Line(double x, double x0, double y0, double x1, double y1) {
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

// Keys that all tokens of a step see together, each itself and those before it, `window` at most.
double KeysSeen(const CostPoint& point, double window) {
  const double tokens = point.tokens;
  const double context = point.context;
  // The first ones see less than the window.
  const double fewer = std::clamp(window - context, 0.0, tokens);
  return fewer * context + fewer * (fewer + 1) / 2 + (tokens - fewer) * window;
}

// Seconds of each key that is seen: by a single token, which waits for memory, and by several at
// once, which compute. 0 where no two contexts were measured.
struct KeySeconds {
  double one = 0;
  std::optional<double> many;
  double of(std::int32_t tokens) const { return tokens > 1 ? many.value_or(one) : one; }
};

// From what as many tokens took behind the shortest and the longest context; of several numbers of
// tokens the largest counts.
KeySeconds KeySecondsOf(const std::vector<StageCost>& costs, CostKind kind, double window) {
  std::map<std::int32_t, std::pair<const StageCost*, const StageCost*>> by_tokens;
  for (const StageCost& cost : costs) {
    if (cost.kind != kind) continue;
    auto& [least, most] = by_tokens.try_emplace(cost.point.tokens, &cost, &cost).first->second;
    if (cost.point.context < least->point.context) least = &cost;
    if (cost.point.context > most->point.context) most = &cost;
  }
  KeySeconds seconds;
  for (const auto& [tokens, ends] : by_tokens) {
    const double keys = KeysSeen(ends.second->point, window) - KeysSeen(ends.first->point, window);
    if (keys <= 0) continue;
    const double each = std::max(0.0, ends.second->seconds - ends.first->seconds) / keys;
    if (tokens == 1) {
      seconds.one = each;
    } else {
      seconds.many = each;
    }
  }
  return seconds;
}

// Attention without its products, which alone grows with the context; or the kind itself.
CostKind WithoutProducts(CostKind kind) {
  switch (kind) {
    case CostKind::kLocalAttention:
      return CostKind::kLocalAttend;
    case CostKind::kGlobalAttention:
      return CostKind::kGlobalAttend;
    default:
      return kind;
  }
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
  const CostKind alone = WithoutProducts(kind);
  const double window =
      alone == CostKind::kLocalAttend ? config_.sliding_window : kMaxContextTokens;
  KeySeconds key_seconds;
  if (alone == CostKind::kLocalAttend || alone == CostKind::kGlobalAttend) {
    key_seconds = KeySecondsOf(found->costs, alone, window);
    if (key_seconds.one == 0 && !key_seconds.many.has_value())
      key_seconds = KeySecondsOf(found->costs, kind, window);
  }
  const auto of_keys = [&](const CostPoint& of) {
    return key_seconds.of(of.tokens) * KeysSeen(of, window);
  };
  // What a submission costs is the same for any tokens, and among those of the shortest stages it
  // is seen best.
  const bool fewest = kind == CostKind::kSubmission;
  std::int32_t least = kMaxStepTokens;
  for (const StageCost& cost : found->costs) least = std::min(least, cost.point.tokens);
  // What is left without the keys, by tokens.
  std::map<std::int32_t, std::pair<double, int>> by_tokens;
  for (const StageCost& cost : found->costs) {
    if (cost.kind != kind || (fewest && cost.point.tokens > least)) continue;
    auto& [seconds, count] = by_tokens[cost.point.tokens];
    seconds += cost.seconds - of_keys(cost.point);
    ++count;
  }
  if (by_tokens.empty()) {
    return absl::NotFoundError(
        absl::StrCat(std::string(worker), " has no time for '", std::string(NameOf(kind)), "'"));
  }
  const auto mean = [](const auto& entry) { return entry->second.first / entry->second.second; };
  const auto above = by_tokens.lower_bound(point.tokens);
  const bool beyond = above == by_tokens.end();
  double seconds = 0;
  if (!beyond && (above->first == point.tokens || above == by_tokens.begin())) {
    seconds = mean(above);
  } else if (fewest) {
    seconds = mean(by_tokens.begin());
  } else if (by_tokens.size() == 1) {
    seconds = mean(by_tokens.begin()) * point.tokens / by_tokens.begin()->first;
  } else {
    const auto right = beyond ? std::prev(above) : above;
    const auto left = std::prev(right);
    seconds = Line(point.tokens, left->first, mean(left), right->first, mean(right));
    if (beyond) seconds = std::max(seconds, mean(right));
  }
  return std::max(0.0, seconds + of_keys(point));
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

StepOverhead StepModel::OverheadOf(std::string_view worker) const {
  for (const WorkerCosts& costs : workers_) {
    if (costs.worker == worker) return costs.overhead.value_or(StepOverhead());
  }
  return {};
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
  // The step is over when its head has answered.
  const StepOverhead overhead = OverheadOf(route.back().worker);
  prediction.overhead_seconds =
      shape.point.context > 0 ? overhead.following_seconds : overhead.lone_seconds;
  if (shape.to_both && !pairs_.empty()) prediction.overhead_seconds += pairs_[0].message_seconds;
  prediction.seconds = at_once + std::max(0.0, all - at_once) * (std::min(slowdown, 2.0) - 1) +
                       prediction.overhead_seconds;
  return prediction;
}

std::pair<std::int32_t, std::int32_t> LayersToMeasure(const ModelConfig& config,
                                                      std::uint64_t weight_bytes) {
  const std::vector<bool>& global = config.layer_is_global;
  std::size_t last = 1;
  while (last < global.size() && global[last] == global[0]) ++last;
  // All of one kind: the first will do.
  std::size_t first = last < global.size() ? last - 1 : 0;
  last = std::min(first + 2, global.size());
  const std::uint64_t layer_bytes = std::max<std::uint64_t>(1, weight_bytes / global.size());
  while (last < global.size() && layer_bytes * (last - first) < kManyWeightBytes) ++last;
  while (first > 0 && layer_bytes * (last - first) < kManyWeightBytes) --first;
  return {static_cast<std::int32_t>(first), static_cast<std::int32_t>(last)};
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
