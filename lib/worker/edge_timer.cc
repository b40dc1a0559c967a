#include "lib/worker/edge_timer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/trace.h"

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

  absl::Status Compile(Device& device, const StageTimerSpec& spec,
                       std::vector<std::shared_ptr<const Weights>> weights) {
    const std::int32_t half = 2 * spec.first_layer + 1;
    ProgramSpec program;
    program.stages.push_back(
        {{.first_half = half, .last_half = half + 1}, in_.residual.get(), out_.residual.get()});
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
  bool SendsFirst() const { return out_.spec.id < in_.spec.id; }

  absl::Status Begin(std::int32_t rows) {
    const std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows));
    // Where the stage has no attention, no block is looked at: those of one sequence will do.
    const std::vector<std::int32_t> blocks((tokens.size() + kKvBlockTokens - 1) / kKvBlockTokens);
    const StepSequence sequence{0, 0, rows, 0, blocks, blocks};
    Step step;
    step.id = kStepId;
    step.tokens = tokens;
    step.sequences = {&sequence, 1};
    return program_->Begin(0, step);
  }

  // The stage, from what lies in the slot of the edge to it, and the hand-over of its rows.
  absl::StatusOr<double> Send(std::int32_t rows) {
    TANDEM_RETURN_IF_ERROR(OfEdge(out_.control->WaitForSpace(sequence_, deadline_)));
    const std::int64_t begun = MonotonicNanoseconds();
    TANDEM_ASSIGN_OR_RETURN(
        const Ticket ticket,
        program_->Submit(0, 0, in_.control->SlotOf(sequence_), out_.control->SlotOf(sequence_)));
    const absl::Status done = program_->Wait(ticket, deadline_);
    if (absl::IsDeadlineExceeded(done)) {
      program_->Cancel();
      const absl::Status stopped = program_->Wait(ticket, Deadline::After(kCancelPatience));
      if (absl::IsUnavailable(stopped) || absl::IsDeadlineExceeded(stopped))
        return absl::UnavailableError(absl::StrCat("the device did not stop: ", stopped.message()));
    }
    TANDEM_RETURN_IF_ERROR(done);
    const double seconds = SecondsSince(begun);
    out_.control->Publish(sequence_, kStepId, rows);
    return seconds;
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
  std::unique_ptr<Program> program_;
  // Of the next hand-over, on both edges.
  std::uint64_t sequence_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<HandoverCost>> TimeHandovers(
    Device& device, const StageTimerSpec& spec, std::vector<std::shared_ptr<const Weights>> weights,
    Edge& out, Edge& in, const std::vector<HandoverRounds>& rounds, Deadline deadline,
    const StageTimer::Cancelled& cancelled) {
  HandoverTimer timer(out, in, deadline, cancelled);
  TANDEM_RETURN_IF_ERROR(timer.Compile(device, spec, std::move(weights)));
  std::vector<HandoverCost> costs;
  for (const HandoverRounds& wanted : rounds) {
    TANDEM_ASSIGN_OR_RETURN(const HandoverCost cost, timer.Run(wanted));
    costs.push_back(cost);
  }
  TANDEM_RETURN_IF_ERROR(timer.Finish());
  return costs;
}

}  // namespace tandem
