#include "lib/worker/edge_timer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/trace.h"
#include "lib/model/attention_rows.h"

namespace tandem {
namespace {

constexpr absl::Duration kCancelPatience = absl::Seconds(30);
// Before those that count: a driver may compile in the first.
constexpr std::int32_t kWarmRounds = 2;
// Every hand-over is one of the same step.
constexpr std::uint64_t kStepId = 1;

double SecondsSince(std::int64_t begun_ns) {
  return static_cast<double>(MonotonicNanoseconds() - begun_ns) * 1e-9;
}

double MedianOf(std::vector<double> seconds) {
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

class HandoverTimer {
 public:
  HandoverTimer(Edge& out, Edge& in, Deadline deadline, const StageTimer::Cancelled& cancelled)
      : out_(out), in_(in), deadline_(deadline), cancelled_(cancelled) {}

  absl::Status Compile(Device& device, const StageTimerSpec& spec, HandoverStage stage,
                       std::vector<std::shared_ptr<const Weights>> weights) {
    ProgramSpec program;
    TANDEM_RETURN_IF_ERROR(AddStages(device, spec, stage, &program));
    program.weights = std::move(weights);
    program.limits = spec.limits;
    program.activations = spec.activations;
    program.contexts = 1;
    absl::StatusOr<std::unique_ptr<Program>> compiled = device.Compile(spec.config, program);
    if (!compiled.ok()) return Annotate(compiled.status(), "compiling the stage of an edge");
    program_ = *std::move(compiled);
    return absl::OkStatus();
  }

  absl::StatusOr<HandoverCost> Run(const HandoverRounds& wanted) {
    TANDEM_RETURN_IF_ERROR(Begin(wanted.rows));
    std::vector<double> rounds;
    std::vector<double> stages;
    for (std::int32_t i = 0; i < kWarmRounds + wanted.rounds; ++i, ++sequence_) {
      if (cancelled_()) return absl::CancelledError("measuring was cancelled");
      const std::int64_t begun = MonotonicNanoseconds();
      double stage = 0;
      if (SendsFirst()) {
        TANDEM_ASSIGN_OR_RETURN(stage, Send(wanted.rows));
        TANDEM_RETURN_IF_ERROR(Take(wanted.rows));
      } else {
        TANDEM_RETURN_IF_ERROR(Take(wanted.rows));
        TANDEM_ASSIGN_OR_RETURN(stage, Send(wanted.rows));
      }
      in_.control->Release(sequence_);
      if (i < kWarmRounds) continue;
      rounds.push_back(SecondsSince(begun));
      stages.push_back(stage);
    }
    return HandoverCost{wanted.rows, MedianOf(std::move(rounds)), MedianOf(std::move(stages))};
  }

  // The worker that sends last keeps its edges until the other one, which has taken that then,
  // closes its own: rows on their way are lost with their edge.
  absl::Status Finish() {
    if (SendsFirst()) return absl::OkStatus();
    const absl::Status closed = in_.control->WaitForData(sequence_, kStepId, 1, deadline_);
    return absl::IsUnavailable(closed) ? absl::OkStatus() : closed;
  }

 private:
  absl::Status AddStages(Device& device, const StageTimerSpec& spec, HandoverStage stage,
                         ProgramSpec* program) {
    const std::int32_t half = 2 * spec.first_layer;
    ResidualBuffer* const in = in_.residual.get();
    ResidualBuffer* const out = out_.residual.get();
    switch (stage) {
      case HandoverStage::kFeedForward:
        program->stages.push_back({{.first_half = half + 1, .last_half = half + 2}, in, out});
        return absl::OkStatus();
      case HandoverStage::kAttend: {
        KvCacheSpec cache;
        cache.layers = {spec.first_layer};
        cache.global_blocks = cache.window_blocks = BlocksOf(spec.limits.max_tokens);
        cache.type = spec.kv_type;
        absl::StatusOr<std::unique_ptr<KvCache>> made = device.CreateKvCache(spec.config, cache);
        if (!made.ok()) return Annotate(made.status(), "KV cache");
        kv_cache_ = *std::move(made);
        program->kv_cache = kv_cache_.get();
        program->stages.push_back({{.first_half = half,
                                    .last_half = half + 1,
                                    .begin = AttentionCut::kProjected,
                                    .end = AttentionCut::kAttended},
                                   in,
                                   out});
        return absl::OkStatus();
      }
      case HandoverStage::kProducts: {
        TANDEM_ASSIGN_OR_RETURN(
            residual_, device.CreateResidual(
                           MakeResidualLayout(1, spec.limits.max_tokens, spec.config.hidden_size)));
        ResidualBuffer* const own = residual_.get();
        program->stages.push_back(
            {{.first_half = half, .last_half = half + 1, .begin = AttentionCut::kAttended},
             in,
             own});
        program->stages.push_back(
            {{.first_half = half, .last_half = half + 1, .end = AttentionCut::kProjected},
             own,
             out});
        return absl::OkStatus();
      }
    }
    return absl::InternalError("no such stage");
  }

  static std::int32_t BlocksOf(std::int32_t rows) {
    return (rows + kKvBlockTokens - 1) / kKvBlockTokens;
  }

  bool SendsFirst() const { return out_.spec.id < in_.spec.id; }

  absl::Status Begin(std::int32_t rows) {
    const std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows));
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(BlocksOf(rows)));
    std::iota(blocks.begin(), blocks.end(), 0);
    const StepSequence sequence{0, 0, rows, 0, blocks, blocks};
    Step step;
    step.id = kStepId;
    step.tokens = tokens;
    step.sequences = {&sequence, 1};
    return program_->Begin(0, step);
  }

  // The stages, from what lies in the slot of the edge to it, and the hand-over of its rows.
  absl::StatusOr<double> Send(std::int32_t rows) {
    TANDEM_RETURN_IF_ERROR(OfEdge(out_.control->WaitForSpace(sequence_, deadline_)));
    const std::int64_t begun = MonotonicNanoseconds();
    const std::int32_t from = in_.control->SlotOf(sequence_);
    const std::int32_t to = out_.control->SlotOf(sequence_);
    if (residual_ == nullptr) {
      TANDEM_RETURN_IF_ERROR(RunStage(0, from, to));
    } else {
      TANDEM_RETURN_IF_ERROR(RunStage(0, from, 0));
      TANDEM_RETURN_IF_ERROR(RunStage(1, 0, to));
    }
    const double seconds = SecondsSince(begun);
    out_.control->Publish(sequence_, kStepId, rows);
    return seconds;
  }

  absl::Status RunStage(std::int32_t stage, std::int32_t from, std::int32_t to) {
    TANDEM_ASSIGN_OR_RETURN(const Ticket ticket, program_->Submit(stage, 0, from, to));
    const absl::Status done = program_->Wait(ticket, deadline_);
    if (absl::IsDeadlineExceeded(done)) {
      program_->Cancel();
      const absl::Status stopped = program_->Wait(ticket, Deadline::After(kCancelPatience));
      if (absl::IsUnavailable(stopped) || absl::IsDeadlineExceeded(stopped))
        return absl::UnavailableError(absl::StrCat("the device did not stop: ", stopped.message()));
    }
    return done;
  }

  absl::Status Take(std::int32_t rows) {
    return OfEdge(in_.control->WaitForData(sequence_, kStepId, rows, deadline_));
  }

  static absl::Status OfEdge(const absl::Status& status) {
    if (!absl::IsUnavailable(status)) return status;
    return absl::FailedPreconditionError(status.message());
  }

  Edge& out_;
  Edge& in_;
  const Deadline deadline_;
  const StageTimer::Cancelled& cancelled_;
  // Of attention alone; and between the products on both sides of it.
  std::unique_ptr<KvCache> kv_cache_;
  std::unique_ptr<ResidualBuffer> residual_;
  std::unique_ptr<Program> program_;
  // Of the next hand-over, on both edges.
  std::uint64_t sequence_ = 0;
};

}  // namespace

HandoverColumns ColumnsOf(HandoverStage stage, const ModelConfig& config) {
  const std::int32_t projected = std::max(config.hidden_size, ProjectedColumns(config));
  const std::int32_t attended = std::max(config.hidden_size, AttendedColumns(config));
  switch (stage) {
    case HandoverStage::kAttend:
      return {attended, projected};
    case HandoverStage::kProducts:
      return {projected, attended};
    default:
      return {config.hidden_size, config.hidden_size};
  }
}

absl::StatusOr<std::vector<HandoverCost>> TimeHandovers(
    Device& device, const StageTimerSpec& spec, HandoverStage stage,
    std::vector<std::shared_ptr<const Weights>> weights, Edge& out, Edge& in,
    const std::vector<HandoverRounds>& rounds, Deadline deadline,
    const StageTimer::Cancelled& cancelled) {
  HandoverTimer timer(out, in, deadline, cancelled);
  TANDEM_RETURN_IF_ERROR(timer.Compile(device, spec, stage, std::move(weights)));
  std::vector<HandoverCost> costs;
  for (const HandoverRounds& wanted : rounds) {
    TANDEM_ASSIGN_OR_RETURN(const HandoverCost cost, timer.Run(wanted));
    costs.push_back(cost);
  }
  TANDEM_RETURN_IF_ERROR(timer.Finish());
  return costs;
}

}  // namespace tandem
