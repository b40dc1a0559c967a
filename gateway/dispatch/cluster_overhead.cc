// What steps take beside their stages, for the plan `auto`: measured with steps that go the way of
// a plan's, from the gateway to the stages that a worker has measured and back.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/dispatch/cluster_impl.h"
#include "gateway/dispatch/step_stopwatch.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// For all steps that are run of a worker, and for those of one kind before it is the next one's
// turn: the machine is another one in another moment.
constexpr absl::Duration kStepsDuration = absl::Milliseconds(900);
constexpr absl::Duration kTurn = absl::Milliseconds(40);
// A step of a token that takes longer goes through few layers: beside it nothing else counts much.
constexpr double kLongStepSeconds = 0.02;
// Where even that takes longer, what messages take is less than two such steps differ by.
constexpr double kTooLongStepSeconds = 0.1;
// How long the steps of many shares are about.
constexpr double kManySeconds = 0.03;

// The shortest context of a single token.
CostPoint TokenPointOf(const WorkerCosts& worker) {
  CostPoint point;
  for (const StageCost& cost : worker.costs) {
    if (cost.point.tokens != 1) continue;
    if (point.tokens == 0 || cost.point.context < point.context) point = cost.point;
  }
  return point;
}

// Steps of a token, of as many layers and shares as do not take long.
absl::StatusOr<StepStopwatch::Wanted> TokenSteps(const ModelConfig& config,
                                                 const WorkerCosts& worker, std::int32_t layers) {
  const StepModel model(config, {worker}, {});
  StepStopwatch::Wanted wanted;
  wanted.point = TokenPointOf(worker);
  if (wanted.point.tokens == 0) return absl::NotFoundError("it has no time of a single token");
  const auto of = [&](CostKind kind) {
    return model.CostOf(worker.worker, kind, wanted.point).value_or(0);
  };
  const double ends = of(CostKind::kEmbed) + of(CostKind::kHead);
  const double layer = of(CostKind::kLocalAttention) + of(CostKind::kFfn);
  wanted.few = ends + layers * layer > kLongStepSeconds;
  const double step = ends + (wanted.few ? std::min(layers, 2) : layers) * layer;
  if (step > kTooLongStepSeconds) {
    return absl::FailedPreconditionError(absl::StrCat("a step of few layers takes ", step * 1e3,
                                                      " ms, beside which messages do not show"));
  }
  wanted.shares = static_cast<std::size_t>(std::clamp(kManySeconds / std::max(step, 1e-6), 2.0,
                                                      static_cast<double>(kMostMeasuredShares)));
  wanted.duration = kTurn;
  return wanted;
}

}  // namespace

absl::StatusOr<StepOverhead> Cluster::Impl::TimeSteps(std::size_t worker, std::uint64_t generation,
                                                      const WorkerCosts& costs) {
  const ModelConfig& config = setup_.model.config;
  const auto [first, last] = LayersToMeasure(config, setup_.model.weight_bytes);
  TANDEM_ASSIGN_OR_RETURN(const StepStopwatch::Wanted many,
                          TokenSteps(config, costs, last - first));
  StepStopwatch::Wanted lone = many;
  lone.shares = 1;
  StepStopwatch::Wanted following = lone;
  following.in_flight = setup_.scheduler.steps_in_flight;
  StepStopwatch stopwatch({links_[worker].get()}, generation, config.vocab_size);
  OverheadSteps steps;
  steps.shares = many.shares;
  const Deadline end = Deadline::After(kStepsDuration);
  do {
    TANDEM_RETURN_IF_ERROR(stopwatch.Run(following, &steps.following));
    TANDEM_RETURN_IF_ERROR(stopwatch.Run(many, &steps.many));
    TANDEM_RETURN_IF_ERROR(stopwatch.Run(lone, &steps.lone));
  } while (!end.passed());
  spdlog::info(
      "{}: a step of a token takes {:.3f} ms behind another one and {:.3f} ms by itself, {} in one "
      "{:.3f} ms",
      costs.worker, MiddleMean(steps.following) * 1e3, MiddleMean(steps.lone) * 1e3, steps.shares,
      MiddleMean(steps.many) * 1e3);
  return TakeOverhead(steps);
}

void Cluster::Impl::MeasureOverhead(std::size_t worker, std::uint64_t generation,
                                    WorkerCosts* costs) {
  ShowTrying(absl::StrCat("measuring steps of ", costs->worker));
  const absl::StatusOr<StepOverhead> overhead = TimeSteps(worker, generation, *costs);
  if (overhead.ok()) {
    costs->overhead = *overhead;
  } else if (!Stopping()) {
    spdlog::warn("{}: what a step takes beside its stages is not measured: {}", costs->worker,
                 std::string(overhead.status().message()));
  }
}

// Of the worker whose steps are shorter: of the other one's, what messages take is a small part.
void Cluster::Impl::MeasureMessages(std::uint64_t generation, const std::vector<WorkerCosts>& alone,
                                    PairCosts* pair) {
  const ModelConfig& config = setup_.model.config;
  const auto [first, last] = LayersToMeasure(config, setup_.model.weight_bytes);
  const absl::StatusOr<StepStopwatch::Wanted> steps[] = {
      TokenSteps(config, alone[0], last - first), TokenSteps(config, alone[1], last - first)};
  // The more often it fits into some time; each of them has been said to be none before.
  const auto shares = [](const auto& wanted) { return wanted.ok() ? wanted->shares : 0; };
  const std::size_t shorter = shares(steps[0]) >= shares(steps[1]) ? 0 : 1;
  if (!steps[shorter].ok()) return;
  StepStopwatch::Wanted one = *steps[shorter];
  one.shares = 1;
  one.in_flight = setup_.scheduler.steps_in_flight;
  StepStopwatch::Wanted both = one;
  both.to_all = true;
  StepStopwatch stopwatch({links_[shorter].get(), links_[1 - shorter].get()}, generation,
                          config.vocab_size);
  std::vector<double> seconds_of_one;
  std::vector<double> seconds_of_both;
  absl::Status status;
  const Deadline end = Deadline::After(kStepsDuration);
  do {
    status = stopwatch.Run(one, &seconds_of_one);
    if (status.ok()) status = stopwatch.Run(both, &seconds_of_both);
  } while (status.ok() && !end.passed());
  if (status.ok()) {
    pair->message_seconds =
        std::max(0.0, MiddleMean(std::move(seconds_of_both)) - MiddleMean(seconds_of_one));
  } else if (!Stopping()) {
    spdlog::warn("what messages to both workers take is not measured: {}",
                 std::string(status.message()));
  }
}

}  // namespace tandem
