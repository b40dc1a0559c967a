#include "lib/worker/stage_timer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/trace.h"
#include "lib/device/validate.h"
#include "lib/model/attention_rows.h"
#include "lib/model/tensors.h"
#include "lib/sample/candidates.h"

namespace tandem {
namespace {

// Rounds of a point where there is time. Two are made in any case, because in the first one a
// driver may compile, and some more unless they take long.
constexpr std::size_t kMostRounds = 30;
constexpr std::size_t kFewestRounds = 4;
// Of a point before it is the next one's turn.
constexpr int kRoundsAPass = 2;
constexpr double kLongRoundSeconds = 0.5;
// The first round of all, in which a driver may compile what it runs, does not count as time. A
// later one that is under way when the time is over may go on for so long.
constexpr absl::Duration kFirstPatience = absl::Seconds(40);
constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kCancelPatience = absl::Seconds(30);

double SecondsSince(std::int64_t begun_ns) {
  return static_cast<double>(MonotonicNanoseconds() - begun_ns) * 1e-9;
}

std::int32_t BlocksFor(const std::vector<CostPoint>& points) {
  std::int32_t most = 0;
  for (const CostPoint& point : points) most = std::max(most, point.context + point.tokens);
  return static_cast<std::int32_t>(
      CeilDiv(static_cast<std::uint64_t>(most), static_cast<std::uint64_t>(kKvBlockTokens)));
}

// Of each entry; the first round, which warmed up, counts only where it is the only one.
std::vector<StageCost> MedianOf(std::vector<std::vector<StageCost>> rounds) {
  if (rounds.size() > 1) rounds.erase(rounds.begin());
  std::vector<StageCost> median = rounds.front();
  std::vector<double> seconds(rounds.size());
  for (std::size_t entry = 0; entry < median.size(); ++entry) {
    for (std::size_t round = 0; round < rounds.size(); ++round)
      seconds[round] = rounds[round][entry].seconds;
    const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
    std::nth_element(seconds.begin(), middle, seconds.end());
    // What was saved of a submission is a difference.
    median[entry].seconds = std::max(0.0, *middle);
  }
  return median;
}

// A layer of each kind, where there are both.
StageTimer::Span FewLayers(const StageTimerSpec& spec) {
  const std::vector<bool>& global = spec.config.layer_is_global;
  for (std::int32_t layer = spec.first_layer; layer + 1 < spec.last_layer; ++layer) {
    if (global[static_cast<std::size_t>(layer)] != global[static_cast<std::size_t>(layer) + 1])
      return {layer, layer + 2, 0};
  }
  return {spec.first_layer, spec.first_layer + 1, 0};
}

}  // namespace

absl::Status ValidateStageTimerSpec(const StageTimerSpec& spec) {
  if (spec.first_layer < 0 || spec.last_layer <= spec.first_layer ||
      spec.last_layer > spec.config.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("layers: expected some of [0, ",
                                                   spec.config.num_layers, "), found [",
                                                   spec.first_layer, ", ", spec.last_layer, ")"));
  }
  if (spec.points.empty() || spec.points.size() > kMostCostPoints) {
    return absl::InvalidArgumentError(
        absl::StrCat("points: expected 1 to ", kMostCostPoints, ", found ", spec.points.size()));
  }
  for (const CostPoint& point : spec.points) {
    if (point.tokens > spec.limits.max_tokens ||
        BlocksFor({point}) > spec.limits.max_blocks_per_sequence) {
      return absl::InvalidArgumentError(
          absl::StrCat("points: expected steps of at most ", spec.limits.max_tokens,
                       " tokens within ", spec.limits.max_blocks_per_sequence, " blocks, found ",
                       point.tokens, " behind ", point.context));
    }
  }
  if (spec.limits.max_logit_rows < 1)
    return absl::InvalidArgumentError("limits: max_logit_rows: expected 1 or more, found 0");
  return absl::OkStatus();
}

std::vector<std::string> RegionsOf(const StageTimerSpec& spec) {
  std::vector<std::string> names = {RegionName(WeightPart::kEmbedding, -1)};
  for (std::int32_t layer = spec.first_layer; layer < spec.last_layer; ++layer) {
    names.push_back(RegionName(WeightPart::kAttention, layer));
    names.push_back(RegionName(WeightPart::kFfn, layer));
  }
  return names;
}

StageTimer::StageTimer(Device& device, StageTimerSpec spec)
    : device_(device), spec_(std::move(spec)), sampler_(spec_.config.vocab_size) {}

absl::StatusOr<std::unique_ptr<StageTimer>> StageTimer::Create(
    Device& device, std::vector<std::shared_ptr<const Weights>> weights, StageTimerSpec spec) {
  TANDEM_RETURN_IF_ERROR(ValidateStageTimerSpec(spec));
  std::unique_ptr<StageTimer> timer(new StageTimer(device, std::move(spec)));
  TANDEM_RETURN_IF_ERROR(timer->Allocate());
  TANDEM_RETURN_IF_ERROR(timer->Compile(std::move(weights)));
  return timer;
}

absl::Status StageTimer::Allocate() {
  KvCacheSpec cache;
  for (std::int32_t layer = spec_.first_layer; layer < spec_.last_layer; ++layer)
    cache.layers.push_back(layer);
  cache.global_blocks = cache.window_blocks = BlocksFor(spec_.points);
  cache.type = spec_.kv_type;
  absl::StatusOr<std::unique_ptr<KvCache>> made = device_.CreateKvCache(spec_.config, cache);
  if (!made.ok()) return Annotate(made.status(), "KV cache");
  kv_cache_ = *std::move(made);
  const ResidualLayout layout =
      MakeResidualLayout(1, spec_.limits.max_tokens,
                         std::max(spec_.config.hidden_size, ProjectedColumns(spec_.config)));
  for (std::unique_ptr<ResidualBuffer>& residual : residuals_) {
    TANDEM_ASSIGN_OR_RETURN(residual, device_.CreateResidual(layout));
  }
  blocks_.resize(static_cast<std::size_t>(cache.global_blocks));
  std::iota(blocks_.begin(), blocks_.end(), 0);
  return absl::OkStatus();
}

absl::Status StageTimer::Compile(std::vector<std::shared_ptr<const Weights>> weights) {
  ProgramSpec program;
  ResidualBuffer* const even = residuals_[0].get();
  ResidualBuffer* const odd = residuals_[1].get();
  program.stages.push_back({{.embed = true}, nullptr, even});
  const std::int32_t first = 2 * spec_.first_layer;
  const std::int32_t last = 2 * spec_.last_layer;
  for (std::int32_t half = first; half < last; ++half) {
    const bool attention = half % 2 == 0;
    program.stages.push_back({{.first_half = half, .last_half = half + 1},
                              attention ? even : odd,
                              attention ? odd : even});
  }
  all_ = {spec_.first_layer, spec_.last_layer, 0};
  few_ = FewLayers(spec_);
  for (Span* span : {&all_, &few_}) {
    span->whole_stage = static_cast<std::int32_t>(program.stages.size());
    program.stages.push_back(
        {{.first_half = 2 * span->first, .last_half = 2 * span->last}, even, odd});
  }
  head_stage_ = static_cast<std::int32_t>(program.stages.size());
  const std::int32_t end = 2 * spec_.config.num_layers;
  program.stages.push_back({{.first_half = end, .last_half = end, .head = true}, even, nullptr});
  attend_stage_ = head_stage_ + 1;
  for (std::int32_t half = first; half < last; half += 2) {
    program.stages.push_back({{.first_half = half,
                               .last_half = half + 1,
                               .begin = AttentionCut::kProjected,
                               .end = AttentionCut::kAttended},
                              even,
                              odd});
  }
  program.weights = std::move(weights);
  program.kv_cache = kv_cache_.get();
  program.limits = spec_.limits;
  program.activations = spec_.activations;
  program.contexts = 1;
  absl::StatusOr<std::unique_ptr<Program>> compiled = device_.Compile(spec_.config, program);
  if (!compiled.ok()) return Annotate(compiled.status(), "compiling the stages");
  program_ = *std::move(compiled);
  return absl::OkStatus();
}

absl::Status StageTimer::Begin(const CostPoint& point) {
  tokens_.resize(static_cast<std::size_t>(point.tokens));
  // Any tokens do: the time does not depend on them.
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    tokens_[i] = static_cast<std::int32_t>((i * 131 + 7) % 1000) % spec_.config.vocab_size;
  const StepSequence sequence{0, 0, point.tokens, point.context, blocks_, blocks_};
  const std::int32_t row = point.tokens - 1;
  Step step;
  step.id = 1;
  step.tokens = tokens_;
  step.sequences = {&sequence, 1};
  step.logit_rows = {&row, 1};
  return program_->Begin(0, step);
}

absl::StatusOr<double> StageTimer::RunStage(std::int32_t stage, Deadline deadline) {
  const std::int64_t begun = MonotonicNanoseconds();
  TANDEM_ASSIGN_OR_RETURN(const Ticket ticket, program_->Submit(stage, 0, 0, 0));
  const absl::Status done = program_->Wait(ticket, deadline);
  if (absl::IsDeadlineExceeded(done)) {
    program_->Cancel();
    const absl::Status stopped = program_->Wait(ticket, Deadline::After(kCancelPatience));
    if (absl::IsUnavailable(stopped) || absl::IsDeadlineExceeded(stopped))
      return absl::UnavailableError(absl::StrCat("the device did not stop: ", stopped.message()));
  }
  TANDEM_RETURN_IF_ERROR(done);
  return SecondsSince(begun);
}

// As a step does it for a greedy request.
absl::Status StageTimer::Sample() {
  CandidateMemory memory;
  if (program_->candidates(0, 0, &memory).has_value()) return absl::OkStatus();
  SamplingParams greedy;
  greedy.temperature = 0;
  return sampler_.Sample(program_->logits(0), greedy, TokenCounts(), 0).status();
}

absl::StatusOr<StageTimer::Round> StageTimer::RunRound(const CostPoint& point, const Span& span,
                                                       Deadline deadline,
                                                       const Cancelled& cancelled) {
  Round round;
  round.span = span;
  const std::int64_t begun = MonotonicNanoseconds();
  TANDEM_RETURN_IF_ERROR(Begin(point));
  round.begin = SecondsSince(begun);
  TANDEM_ASSIGN_OR_RETURN(round.embed, RunStage(0, deadline));
  const std::int32_t first_stage = 1 + 2 * (span.first - spec_.first_layer);
  for (std::int32_t stage = first_stage; stage < first_stage + span.halves(); ++stage) {
    if (cancelled()) return absl::CancelledError("measuring was cancelled");
    TANDEM_ASSIGN_OR_RETURN(const double half, RunStage(stage, deadline));
    round.halves.push_back(half);
  }
  // The rows are not those of queries, keys and values: the time does not depend on them.
  for (std::int32_t layer = span.first; layer < span.last; ++layer) {
    if (cancelled()) return absl::CancelledError("measuring was cancelled");
    const std::int32_t stage = attend_stage_ + layer - spec_.first_layer;
    TANDEM_ASSIGN_OR_RETURN(const double attend, RunStage(stage, deadline));
    round.attends.push_back(attend);
  }
  const std::int64_t head_begun = MonotonicNanoseconds();
  TANDEM_RETURN_IF_ERROR(RunStage(head_stage_, deadline).status());
  TANDEM_RETURN_IF_ERROR(Sample());
  round.head = SecondsSince(head_begun);
  if (cancelled()) return absl::CancelledError("measuring was cancelled");
  TANDEM_ASSIGN_OR_RETURN(round.whole, RunStage(span.whole_stage, deadline));
  round.total = SecondsSince(begun);
  return round;
}

std::vector<StageCost> StageTimer::CostsOf(const CostPoint& point, const Round& round) const {
  std::vector<StageCost> costs = {{CostKind::kBegin, point, round.begin},
                                  {CostKind::kEmbed, point, round.embed},
                                  {CostKind::kHead, point, round.head}};
  double sums[kNumCostKinds] = {};
  int counts[kNumCostKinds] = {};
  double parts = 0;
  for (std::size_t i = 0; i < round.halves.size(); ++i) {
    const std::size_t layer = static_cast<std::size_t>(round.span.first) + i / 2;
    const CostKind kind = i % 2 == 1                            ? CostKind::kFfn
                          : spec_.config.layer_is_global[layer] ? CostKind::kGlobalAttention
                                                                : CostKind::kLocalAttention;
    sums[static_cast<std::size_t>(kind)] += round.halves[i];
    ++counts[static_cast<std::size_t>(kind)];
    parts += round.halves[i];
  }
  for (std::size_t i = 0; i < round.attends.size(); ++i) {
    const std::size_t layer = static_cast<std::size_t>(round.span.first) + i;
    const auto index = static_cast<std::size_t>(
        spec_.config.layer_is_global[layer] ? CostKind::kGlobalAttend : CostKind::kLocalAttend);
    sums[index] += round.attends[i];
    ++counts[index];
  }
  for (const CostKind kind : {CostKind::kLocalAttention, CostKind::kGlobalAttention, CostKind::kFfn,
                              CostKind::kLocalAttend, CostKind::kGlobalAttend}) {
    const auto index = static_cast<std::size_t>(kind);
    if (counts[index] > 0) costs.push_back({kind, point, sums[index] / counts[index]});
  }
  const double saved = (parts - round.whole) /
                       static_cast<double>(std::max<std::size_t>(1, round.halves.size() - 1));
  costs.push_back({CostKind::kSubmission, point, saved});
  return costs;
}

absl::Status StageTimer::AddRound(Measured* measured, Deadline hard, const Cancelled& cancelled) {
  TANDEM_ASSIGN_OR_RETURN(const Round round,
                          RunRound(measured->point, measured->span, hard, cancelled));
  measured->round_seconds = round.total;
  measured->rounds.push_back(CostsOf(measured->point, round));
  return absl::OkStatus();
}

absl::Status StageTimer::StartPoint(Measured* measured, Deadline share, Deadline hard,
                                    const Cancelled& cancelled) {
  std::vector<std::vector<StageCost>>& rounds = measured->rounds;
  while (rounds.size() < kFewestRounds) {
    if (rounds.size() > 1 && measured->round_seconds > kLongRoundSeconds &&
        share.left() < absl::Seconds(measured->round_seconds))
      break;
    const absl::Status status = AddRound(measured, hard, cancelled);
    if (absl::IsDeadlineExceeded(status) && !rounds.empty()) break;
    TANDEM_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StageCost>> StageTimer::MeasureAll(absl::Duration limit,
                                                              const Cancelled& cancelled) {
  const std::lock_guard lock(mutex_);
  TANDEM_RETURN_IF_ERROR(
      RunRound(spec_.points.front(), all_, Deadline::After(kFirstPatience), cancelled).status());
  const Deadline end = Deadline::After(limit);
  const Deadline hard = Deadline::After(limit + kPatience);
  const double few = static_cast<double>(few_.halves()) / all_.halves();
  std::vector<Measured> points;
  // Of all layers, for each token.
  double token_seconds = 0;
  bool prompts = false;
  for (std::size_t i = 0; i < spec_.points.size(); ++i) {
    Measured measured{spec_.points[i], all_, 0, {}};
    const double guess = token_seconds * measured.point.tokens;
    // Of single tokens nothing follows for prompts: the shortest one is measured in any case.
    const bool first_prompt = measured.point.tokens > 1 && !prompts;
    prompts = prompts || first_prompt;
    if (i > 0 && !first_prompt && absl::Seconds(guess * few) > end.left()) continue;
    // Each point may take its share of what is left.
    const absl::Duration share = std::max(absl::ZeroDuration(), end.left()) /
                                 static_cast<std::int64_t>(spec_.points.size() - i);
    if (absl::Seconds(guess * kFewestRounds) > share) measured.span = few_;
    const absl::Status status = StartPoint(&measured, Deadline::After(share), hard, cancelled);
    if (absl::IsDeadlineExceeded(status) && i > 0) break;
    TANDEM_RETURN_IF_ERROR(status);
    token_seconds =
        measured.round_seconds * all_.halves() / measured.span.halves() / measured.point.tokens;
    points.push_back(std::move(measured));
  }
  TANDEM_RETURN_IF_ERROR(AddRounds(&points, end, hard, cancelled));
  std::vector<StageCost> costs;
  for (Measured& measured : points) {
    const std::vector<StageCost> median = MedianOf(std::move(measured.rounds));
    costs.insert(costs.end(), median.begin(), median.end());
  }
  return costs;
}

absl::Status StageTimer::AddRounds(std::vector<Measured>* points, Deadline end, Deadline hard,
                                   const Cancelled& cancelled) {
  bool any = true;
  while (std::exchange(any, false)) {
    for (Measured& measured : *points) {
      for (int i = 0; i < kRoundsAPass; ++i) {
        if (measured.rounds.size() >= kMostRounds ||
            absl::Seconds(measured.round_seconds) > end.left())
          break;
        const absl::Status status = AddRound(&measured, hard, cancelled);
        if (absl::IsDeadlineExceeded(status)) return absl::OkStatus();
        TANDEM_RETURN_IF_ERROR(status);
        any = true;
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StageCost>> StageTimer::Repeat(const CostPoint& point,
                                                          absl::Duration duration,
                                                          const Cancelled& cancelled) {
  const std::lock_guard lock(mutex_);
  if (std::find(spec_.points.begin(), spec_.points.end(), point) == spec_.points.end()) {
    return absl::InvalidArgumentError(absl::StrCat("point: expected one that was measured, found ",
                                                   point.tokens, " tokens behind ", point.context));
  }
  const Deadline end = Deadline::After(duration);
  const Deadline hard = Deadline::After(duration + kPatience);
  std::vector<StageCost> sums;
  double rounds = 0;
  do {
    TANDEM_ASSIGN_OR_RETURN(const Round round, RunRound(point, all_, hard, cancelled));
    const std::vector<StageCost> found = CostsOf(point, round);
    if (sums.empty()) {
      sums = found;
    } else {
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i].seconds += found[i].seconds;
    }
    ++rounds;
  } while (!end.passed());
  for (StageCost& cost : sums) cost.seconds = std::max(0.0, cost.seconds / rounds);
  return sums;
}

absl::Status StageTimer::CheckPoint(const CostPoint& point) const {
  const auto blocks = static_cast<std::int32_t>(blocks_.size());
  if (point.tokens >= 1 && point.tokens <= spec_.limits.max_tokens && point.context >= 0 &&
      point.context <= blocks * kKvBlockTokens - point.tokens)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("step: expected 1 to ", spec_.limits.max_tokens, " tokens that end within ",
                   blocks * kKvBlockTokens, ", found ", point.tokens, " behind ", point.context));
}

absl::StatusOr<double> StageTimer::RunStep(const CostPoint& point, bool few, Deadline deadline) {
  TANDEM_RETURN_IF_ERROR(CheckPoint(point));
  const std::lock_guard lock(mutex_);
  const std::int64_t begun = MonotonicNanoseconds();
  TANDEM_RETURN_IF_ERROR(Begin(point));
  for (const std::int32_t stage : {0, (few ? few_ : all_).whole_stage, head_stage_}) {
    stepping_.store(true);
    const absl::Status ran = interrupted_.load() ? absl::CancelledError("step: it was interrupted")
                                                 : RunStage(stage, deadline).status();
    stepping_.store(false);
    TANDEM_RETURN_IF_ERROR(ran);
  }
  TANDEM_RETURN_IF_ERROR(Sample());
  return SecondsSince(begun);
}

void StageTimer::Interrupt() {
  interrupted_.store(true);
  if (stepping_.load()) program_->Cancel();
}

}  // namespace tandem
