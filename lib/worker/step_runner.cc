#include "lib/worker/step_runner.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/clock.h"
#include "lib/base/status_macros.h"
#include "lib/wire/model_wire.h"
#include "lib/worker/describe.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

// A stage that was cancelled must come back within this time; else the device hangs and counts as
// lost.
constexpr absl::Duration kCancelPatience = absl::Seconds(30);
constexpr double kLongestTimeoutSeconds = 3600;

absl::Duration Uptime() { return Clock::Real().Uptime(); }

}  // namespace

StepRunner::StepRunner(Parts parts)
    : parts_(std::move(parts)), slots_(parts_.bounds), stats_(parts_.layout.stages.size()) {
  TANDEM_CHECK(parts_.program != nullptr && parts_.edges.size() == parts_.layout.edges.size());
  if (parts_.layout.has_head) sampler_ = std::make_unique<Sampler>(parts_.bounds.config.vocab_size);
}

std::uint64_t StepRunner::SequenceOf(int edge, std::int32_t hop) const {
  return step_index_ *
             static_cast<std::uint64_t>(parts_.layout.edges[static_cast<std::size_t>(edge)].hops) +
         static_cast<std::uint64_t>(hop);
}

absl::Status StepRunner::CheckOrder(const v1::StepPlan& plan) {
  if (plan.generation() != parts_.generation) {
    return absl::FailedPreconditionError(absl::StrCat(
        "step: expected generation ", parts_.generation, ", found ", plan.generation()));
  }
  const std::uint64_t expected = first_step_id_ + step_index_ + 1;
  if (any_step_ && plan.step_id() != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: step_id: expected ", expected, ", found ", plan.step_id()));
  }
  if (any_step_) {
    ++step_index_;
  } else {
    any_step_ = true;
    first_step_id_ = plan.step_id();
  }
  if (!(plan.timeout_seconds() > 0 && plan.timeout_seconds() <= kLongestTimeoutSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: timeout_seconds: expected more than 0 and at most ",
                     kLongestTimeoutSeconds, ", found ", plan.timeout_seconds()));
  }
  return absl::OkStatus();
}

absl::Status StepRunner::Run(const v1::StepPlan& plan, v1::StepResult* result) {
  result->Clear();
  result->set_step_id(plan.step_id());
  result->set_generation(plan.generation());
  absl::Status status = CheckOrder(plan);
  if (status.ok()) status = slots_.Apply(plan, &batch_);
  StageStats total;
  if (status.ok() && !batch_.sequences.empty()) {
    status = RunStages(absl::Now() + absl::Seconds(plan.timeout_seconds()), &total);
    if (status.ok() && sampler_ != nullptr) status = UseLogits(result);
    if (!status.ok()) {
      slots_.Spoil(batch_);
      result->clear_sequences();
    }
  }
  result->set_run_seconds(absl::ToDoubleSeconds(total.run));
  result->set_wait_seconds(absl::ToDoubleSeconds(total.wait));
  result->set_code(static_cast<std::int32_t>(status.code()));
  result->set_error(std::string(status.message()));
  if (status.ok()) {
    std::lock_guard lock(stats_mutex_);
    ++steps_done_;
    tokens_done_ += batch_.tokens.size();
  }
  return device_lost_ ? status : absl::OkStatus();
}

absl::Status StepRunner::RunStages(absl::Time deadline, StageStats* total) {
  TANDEM_RETURN_IF_ERROR(parts_.program->Begin(0, batch_.step()));
  for (std::size_t i = 0; i < parts_.edges.size(); ++i)
    parts_.edges[i]->control->BeginStep(SequenceOf(static_cast<int>(i), 0));
  for (std::size_t i = 0; i < parts_.layout.stages.size(); ++i) {
    StageStats stats;
    const absl::Status status = RunStage(i, deadline, &stats);
    total->run += stats.run;
    total->wait += stats.wait;
    {
      std::lock_guard lock(stats_mutex_);
      stats_[i].runs += status.ok() ? 1 : 0;
      stats_[i].run += stats.run;
      stats_[i].wait += stats.wait;
    }
    if (!status.ok())
      return Annotate(
          status, absl::StrCat("step ", batch_.id, ": stage '", parts_.layout.stages[i].name, "'"));
  }
  return absl::OkStatus();
}

absl::Status StepRunner::RunStage(std::size_t index, absl::Time deadline, StageStats* stats) {
  const LocalStage& stage = parts_.layout.stages[index];
  const auto rows = static_cast<std::int32_t>(batch_.tokens.size());
  EdgeControl* input =
      stage.input_edge == kNoEdge
          ? nullptr
          : parts_.edges[static_cast<std::size_t>(stage.input_edge)]->control.get();
  EdgeControl* output =
      stage.output_edge == kNoEdge
          ? nullptr
          : parts_.edges[static_cast<std::size_t>(stage.output_edge)]->control.get();
  const std::uint64_t in = input == nullptr ? 0 : SequenceOf(stage.input_edge, stage.input_hop);
  const std::uint64_t out = output == nullptr ? 0 : SequenceOf(stage.output_edge, stage.output_hop);

  const absl::Duration begun = Uptime();
  const Deadline edge_deadline = Deadline::After(deadline - absl::Now());
  absl::Status ready =
      input == nullptr ? absl::OkStatus() : input->WaitForData(in, batch_.id, rows, edge_deadline);
  if (ready.ok() && output != nullptr) ready = output->WaitForSpace(out, edge_deadline);
  const absl::Duration started = Uptime();
  stats->wait = started - begun;
  TANDEM_RETURN_IF_ERROR(ready);
  const absl::Status done = Compute(index, input == nullptr ? 0 : input->SlotOf(in),
                                    output == nullptr ? 0 : output->SlotOf(out), deadline);
  stats->run = Uptime() - started;
  TANDEM_RETURN_IF_ERROR(done);
  if (input != nullptr) input->Release(in);
  if (output != nullptr) output->Publish(out, batch_.id, rows);
  return absl::OkStatus();
}

absl::Status StepRunner::Compute(std::size_t index, std::int32_t input_slot,
                                 std::int32_t output_slot, absl::Time deadline) {
  Program& program = *parts_.program;
  absl::StatusOr<Ticket> ticket =
      program.Submit(static_cast<std::int32_t>(index), 0, input_slot, output_slot);
  if (!ticket.ok()) {
    device_lost_ = absl::IsUnavailable(ticket.status());
    return ticket.status();
  }
  if (interrupted_.load()) program.Cancel();
  absl::Status done = program.Wait(*ticket, Deadline::After(deadline - absl::Now()));
  if (absl::IsDeadlineExceeded(done)) {
    program.Cancel();
    const absl::Status stopped = program.Wait(*ticket, Deadline::After(kCancelPatience));
    if (absl::IsDeadlineExceeded(stopped)) {
      done = absl::UnavailableError(absl::StrCat("the device did not stop within ",
                                                 absl::FormatDuration(kCancelPatience),
                                                 " of a cancellation"));
    } else if (absl::IsUnavailable(stopped)) {
      done = stopped;
    }
  }
  device_lost_ = absl::IsUnavailable(done);
  return done;
}

absl::Status StepRunner::UseLogits(v1::StepResult* result) {
  const auto vocab = static_cast<std::size_t>(parts_.bounds.config.vocab_size);
  const std::span<const float> logits = parts_.program->logits(0);
  if (logits.size() != batch_.logit_rows.size() * vocab) {
    return absl::InternalError(absl::StrCat("head: expected ", batch_.logit_rows.size(),
                                            " rows of ", vocab, " logits, found ", logits.size(),
                                            " values"));
  }
  v1::SequenceResult* sequence = nullptr;
  std::int32_t share = -1;
  for (const LogitUse& use : batch_.uses) {
    if (use.share != share) {
      share = use.share;
      sequence = result->add_sequences();
      sequence->set_slot(use.slot);
    }
    const std::span<const float> row =
        logits.subspan(static_cast<std::size_t>(use.row) * vocab, vocab);
    const SamplingParams& params = slots_.sampling(use.slot);
    if (use.score >= 0) {
      TANDEM_ASSIGN_OR_RETURN(const SampledToken scored,
                              sampler_->Score(row, use.score, params.num_logprobs));
      *sequence->add_scored() = ToProto(scored);
    }
    if (use.sample) {
      TANDEM_ASSIGN_OR_RETURN(const SampledToken sampled,
                              sampler_->Sample(row, params, slots_.counts(use.slot), use.position));
      slots_.SetSampled(use.slot, sampled.token);
      *sequence->mutable_sampled() = ToProto(sampled);
    }
  }
  return absl::OkStatus();
}

void StepRunner::Interrupt() {
  interrupted_.store(true);
  for (Edge* edge : parts_.edges) edge->control->Interrupt();
  parts_.program->Cancel();
}

void StepRunner::ClearInterrupt() {
  interrupted_.store(false);
  for (Edge* edge : parts_.edges) edge->control->ClearInterrupt();
}

void StepRunner::Describe(v1::WorkerDescription* description) const {
  std::lock_guard lock(stats_mutex_);
  for (std::size_t i = 0; i < stats_.size(); ++i) {
    v1::StageDescription* stage = description->add_stages();
    stage->set_name(parts_.layout.stages[i].name);
    stage->set_runs(stats_[i].runs);
    stage->set_run_seconds(absl::ToDoubleSeconds(stats_[i].run));
    stage->set_wait_seconds(absl::ToDoubleSeconds(stats_[i].wait));
  }
  for (const Edge* edge : parts_.edges) *description->add_edges() = DescribeEdge(*edge);
  description->set_steps_done(steps_done_);
  description->set_tokens_done(tokens_done_);
}

}  // namespace tandem
