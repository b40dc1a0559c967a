#include "lib/worker/step_runner.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"
#include "lib/worker/describe.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {
namespace {

// What was cancelled must come back within this time; else the device hangs and counts as lost.
constexpr absl::Duration kCancelPatience = absl::Seconds(30);
constexpr absl::Duration kLongestTimeout = absl::Hours(1);
constexpr int kMostSamplingThreads = 8;

static_assert(static_cast<int>(ListOp::kBegin) == static_cast<int>(TraceOp::kBegin) &&
              static_cast<int>(ListOp::kRun) == static_cast<int>(TraceOp::kRun) &&
              static_cast<int>(ListOp::kSample) == static_cast<int>(TraceOp::kSample));

// Both ends of an edge count by it, also for a step that is refused.
std::int32_t MicroBatchesOf(const StepPlan& plan) {
  return std::clamp<std::int32_t>(static_cast<std::int32_t>(plan.micro_batch_ends.size()), 1,
                                  kMaxMicroBatches);
}

}  // namespace

StepRunner::StepRunner(Parts parts)
    : parts_(std::move(parts)),
      slots_(parts_.bounds),
      bases_(parts_.layout.edges.size()),
      step_stats_(parts_.layout.stages.size()),
      step_edge_wait_ns_(parts_.layout.edges.size()),
      stats_(parts_.layout.stages.size()),
      edge_wait_ns_(parts_.layout.edges.size()) {
  TANDEM_CHECK(parts_.edges.size() == parts_.layout.edges.size() &&
               parts_.program->contexts() >= parts_.bounds.max_micro_batches);
  for (std::size_t route = 0; route < parts_.layout.routes.size(); ++route) {
    lists_.emplace_back();
    for (std::int32_t m = 1; m <= parts_.bounds.max_micro_batches; ++m)
      lists_.back().push_back(MakeStepList(parts_.layout, route, m));
  }
  if (!parts_.layout.has_head) return;
  const int threads =
      std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMostSamplingThreads);
  sampling_threads_ = std::make_unique<ThreadPool>(threads);
  for (int i = 0; i < threads; ++i) samplers_.emplace_back(parts_.bounds.config.vocab_size);
  const auto rows = static_cast<std::size_t>(parts_.bounds.limits.max_logit_rows);
  row_results_.reserve(rows);
  whole_rows_.reserve(rows);
  if (parts_.masks != nullptr) {
    constraints_ =
        std::make_unique<ConstraintTable>(parts_.masks, parts_.bounds.limits.max_sequences);
  }
}

absl::Status StepRunner::CheckOrder(const StepPlan& plan) const {
  if (plan.generation != parts_.generation) {
    return absl::FailedPreconditionError(
        absl::StrCat("step: expected generation ", parts_.generation, ", found ", plan.generation));
  }
  if (any_step_ && plan.step_id != next_step_id_) {
    return absl::InvalidArgumentError(
        absl::StrCat("step: step_id: expected ", next_step_id_, ", found ", plan.step_id));
  }
  return absl::OkStatus();
}

absl::Status StepRunner::CheckTimeout(const StepPlan& plan) const {
  if (plan.timeout > absl::ZeroDuration() && plan.timeout <= kLongestTimeout)
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "step: timeout_seconds: expected more than 0 and at most ",
      absl::ToInt64Seconds(kLongestTimeout), ", found ", absl::ToDoubleSeconds(plan.timeout)));
}

absl::Status StepRunner::CheckRoute(const StepPlan& plan) const {
  if (plan.route >= 0 && static_cast<std::size_t>(plan.route) < lists_.size())
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("step: route: expected 0 to ", lists_.size() - 1, ", found ", plan.route));
}

std::size_t StepRunner::RouteOf(const StepPlan& plan) const {
  return CheckRoute(plan).ok() ? static_cast<std::size_t>(plan.route) : 0;
}

void StepRunner::BeginEdges() {
  for (std::size_t i = 0; i < bases_.size(); ++i) parts_.edges[i]->control->BeginStep(bases_[i]);
}

absl::Status StepRunner::Run(const StepPlan& plan, StepResult* result) {
  result->begin_unix_ns = absl::GetCurrentTimeNanos();
  result->step_id = plan.step_id;
  result->generation = plan.generation;
  result->sequences.clear();
  std::fill(step_stats_.begin(), step_stats_.end(), StageStats());
  std::fill(step_edge_wait_ns_.begin(), step_edge_wait_ns_.end(), 0);
  result->status = CheckOrder(plan);
  if (result->status.ok()) {
    any_step_ = true;
    next_step_id_ = plan.step_id + 1;
    result->status = RunInOrder(plan, result);
    const auto micro_batches = static_cast<std::uint64_t>(MicroBatchesOf(plan));
    const std::vector<std::int32_t>& hops = parts_.layout.routes[RouteOf(plan)].hops;
    for (std::size_t i = 0; i < bases_.size(); ++i)
      bases_[i] += static_cast<std::uint64_t>(hops[i]) * micro_batches;
  }
  if (!result->status.ok()) {
    result->sequences.clear();
    // The neighbours need not wait for what will never come.
    BeginEdges();
  }
  std::int64_t run_ns = 0;
  std::int64_t wait_ns = 0;
  {
    std::lock_guard lock(stats_mutex_);
    for (std::size_t i = 0; i < stats_.size(); ++i) {
      stats_[i].runs += step_stats_[i].runs;
      stats_[i].run_ns += step_stats_[i].run_ns;
      stats_[i].wait_ns += step_stats_[i].wait_ns;
      run_ns += step_stats_[i].run_ns;
      wait_ns += step_stats_[i].wait_ns;
    }
    for (std::size_t i = 0; i < edge_wait_ns_.size(); ++i)
      edge_wait_ns_[i] += step_edge_wait_ns_[i];
    if (result->status.ok()) {
      ++steps_done_;
      tokens_done_ += batch_.tokens.size();
    }
  }
  result->run = absl::Nanoseconds(run_ns);
  result->wait = absl::Nanoseconds(wait_ns);
  result->end_unix_ns = absl::GetCurrentTimeNanos();
  return device_lost_ ? result->status : absl::OkStatus();
}

absl::Status StepRunner::RunInOrder(const StepPlan& plan, StepResult* result) {
  TANDEM_RETURN_IF_ERROR(CheckTimeout(plan));
  TANDEM_RETURN_IF_ERROR(CheckRoute(plan));
  TANDEM_RETURN_IF_ERROR(slots_.Apply(plan, &batch_, result));
  if (constraints_ != nullptr) TakeConstraints(plan);
  if (batch_.sequences.empty()) return absl::OkStatus();
  BeginEdges();
  const std::vector<ListEntry>& list = lists_[RouteOf(plan)][batch_.micro_batches.size() - 1];
  absl::Status status = RunList(list, Deadline::After(plan.timeout), result);
  if (!status.ok()) slots_.Spoil(batch_);
  return status;
}

absl::Status StepRunner::RunList(const std::vector<ListEntry>& list, Deadline deadline,
                                 StepResult* result) {
  std::int64_t begin_ns = MonotonicNanoseconds();
  for (const ListEntry& entry : list) {
    // Every share of it was left out, on all workers alike: its numbers are skipped at both ends.
    if (batch_.micro_batches[static_cast<std::size_t>(entry.micro_batch)].num_tokens == 0) continue;
    const absl::Status status = RunEntry(entry, deadline, result);
    const std::int64_t end_ns = MonotonicNanoseconds();
    Account(entry, begin_ns, end_ns, status.ok());
    if (!status.ok())
      return Annotate(status, absl::StrCat("step ", batch_.id, ": ", NameOf(entry)));
    begin_ns = end_ns;
  }
  return absl::OkStatus();
}

void StepRunner::Account(const ListEntry& entry, std::int64_t begin_ns, std::int64_t end_ns,
                         bool ok) {
  StageStats& stats = step_stats_[static_cast<std::size_t>(entry.stage)];
  if (entry.op == ListOp::kRun) {
    stats.runs += ok ? 1 : 0;
    stats.run_ns += end_ns - begin_ns;
  } else if (entry.op == ListOp::kWaitData || entry.op == ListOp::kWaitSpace) {
    stats.wait_ns += end_ns - begin_ns;
    step_edge_wait_ns_[static_cast<std::size_t>(entry.edge)] += end_ns - begin_ns;
  }
  if (parts_.trace == nullptr) return;
  TraceEvent event;
  event.step_id = batch_.id;
  event.begin_ns = begin_ns;
  event.end_ns = end_ns;
  event.op = static_cast<TraceOp>(entry.op);
  event.index =
      static_cast<std::int16_t>(entry.op == ListOp::kRun ? entry.stage : std::max(entry.edge, 0));
  event.micro_batch = static_cast<std::int16_t>(entry.micro_batch);
  parts_.trace->Record(event);
}

absl::Status StepRunner::RunEntry(const ListEntry& entry, Deadline deadline, StepResult* result) {
  const auto rows = batch_.micro_batches[static_cast<std::size_t>(entry.micro_batch)].num_tokens;
  switch (entry.op) {
    case ListOp::kBegin:
      return parts_.program->Begin(entry.micro_batch, batch_.step(entry.micro_batch));
    case ListOp::kWaitData:
      return ControlOf(entry.edge)
          .WaitForData(Sequence(entry.edge, entry.number), batch_.id, rows, deadline);
    case ListOp::kWaitSpace:
      return ControlOf(entry.edge).WaitForSpace(Sequence(entry.edge, entry.number), deadline);
    case ListOp::kRun:
      return Compute(entry, deadline);
    case ListOp::kRelease:
      ControlOf(entry.edge).Release(Sequence(entry.edge, entry.number));
      return absl::OkStatus();
    case ListOp::kPublish:
      ControlOf(entry.edge).Publish(Sequence(entry.edge, entry.number), batch_.id, rows);
      return absl::OkStatus();
    case ListOp::kSample:
      return Sample(entry.micro_batch, deadline, result);
  }
  TANDEM_CHECK(false && "unknown ListOp");
}

absl::Status StepRunner::Compute(const ListEntry& entry, Deadline deadline) {
  Program& program = *parts_.program;
  const LocalStage& stage = parts_.layout.stages[static_cast<std::size_t>(entry.stage)];
  const auto slot = [&](int edge, std::int32_t number) {
    return edge == kNoEdge ? 0 : ControlOf(edge).SlotOf(Sequence(edge, number));
  };
  const absl::StatusOr<Ticket> ticket =
      program.Submit(entry.stage, entry.micro_batch, slot(stage.input_edge, entry.input),
                     slot(stage.output_edge, entry.output));
  if (!ticket.ok()) {
    device_lost_ = absl::IsUnavailable(ticket.status());
    return ticket.status();
  }
  computing_.store(true);
  if (interrupted_.load()) program.Cancel();
  absl::Status done = program.Wait(*ticket, deadline);
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
  computing_.store(false);
  device_lost_ = absl::IsUnavailable(done);
  return done;
}

void StepRunner::TakeConstraints(const StepPlan& plan) {
  for (const std::int32_t slot : plan.ends) constraints_->End(slot);
  for (const SequenceStart& start : plan.starts)
    constraints_->Start(start.slot, slots_.sampling(start.slot).constraint, start.generated);
  for (const ForcedToken& forced : batch_.forced) {
    const absl::Status taken = constraints_->TakeForced(forced.slot, forced.token);
    if (!taken.ok()) slots_.SetHeadFault(forced.slot, taken);
  }
}

absl::Status StepRunner::Sample(std::int32_t micro_batch, Deadline deadline, StepResult* result) {
  const MicroBatch& part = batch_.micro_batches[static_cast<std::size_t>(micro_batch)];
  row_results_.clear();
  row_results_.resize(static_cast<std::size_t>(part.num_uses));
  whole_rows_.clear();
  for (std::int32_t i = 0; i < part.num_uses; ++i) {
    const LogitUse& use = batch_.uses[static_cast<std::size_t>(part.first_use + i)];
    if (!UseCandidates(micro_batch, i, use, &row_results_[static_cast<std::size_t>(i)]))
      whole_rows_.push_back(i);
  }
  for (const std::int32_t i : whole_rows_) {
    const LogitUse& use = batch_.uses[static_cast<std::size_t>(part.first_use + i)];
    if (!use.sample || slots_.sampling(use.slot).constraint == nullptr) continue;
    RowResult& row = row_results_[static_cast<std::size_t>(i)];
    absl::StatusOr<ConstraintTable::Choice> choice = ChoiceOf(use, deadline);
    row.status = choice.status();
    if (choice.ok()) row.choice = *std::move(choice);
  }
  if (!whole_rows_.empty()) TANDEM_RETURN_IF_ERROR(UseLogits(micro_batch));
  for (std::int32_t i = 0; i < part.num_uses; ++i) {
    const LogitUse& use = batch_.uses[static_cast<std::size_t>(part.first_use + i)];
    SequenceResult& answer = result->sequences[static_cast<std::size_t>(use.answer)];
    // An earlier row of the share could not be used.
    if (!answer.status.ok()) continue;
    const absl::Status taken = TakeRow(use, row_results_[static_cast<std::size_t>(i)], &answer);
    if (!taken.ok()) FailShare(use.slot, taken, &answer);
  }
  return part.num_pools == 0 ? absl::OkStatus() : Pool(micro_batch, result);
}

void StepRunner::FailShare(std::int32_t slot, const absl::Status& status, SequenceResult* answer) {
  answer->status = Annotate(status, absl::StrCat("slot ", slot));
  answer->sampled.reset();
  answer->forced.clear();
  answer->scored.clear();
  answer->pooled.clear();
  slots_.SetHeadFault(slot, answer->status);
}

absl::Status StepRunner::Pool(std::int32_t micro_batch, StepResult* result) {
  const MicroBatch& part = batch_.micro_batches[static_cast<std::size_t>(micro_batch)];
  const auto hidden = static_cast<std::size_t>(parts_.bounds.config.hidden_size);
  const std::span<const float> states = parts_.program->hidden_states(micro_batch);
  if (states.size() != static_cast<std::size_t>(part.num_tokens) * hidden) {
    return absl::InternalError(absl::StrCat("expected ", part.num_tokens, " rows of ", hidden,
                                            " hidden states, found ", states.size(), " values"));
  }
  for (std::int32_t i = 0; i < part.num_pools; ++i) {
    const PoolUse& use = batch_.pools[static_cast<std::size_t>(part.first_pool + i)];
    SequenceResult& answer = result->sequences[static_cast<std::size_t>(use.answer)];
    if (!answer.status.ok()) continue;
    // Row after row, so that where micro-batches end makes no difference. (A text that goes through
    // an embedding head stands whole in one.)
    answer.pooled.resize(hidden);
    const float* row = states.data() + static_cast<std::size_t>(use.first_row) * hidden;
    for (std::int32_t r = 0; r < use.rows; ++r, row += hidden)
      for (std::size_t c = 0; c < hidden; ++c) answer.pooled[c] += static_cast<double>(row[c]);
    if (parts_.embedding_head.has_value()) parts_.embedding_head->Apply(answer.pooled);
    if (std::all_of(answer.pooled.begin(), answer.pooled.end(),
                    [](double sum) { return std::isfinite(sum); }))
      continue;
    FailShare(use.slot, absl::InternalError("the hidden states hold a value that is not finite"),
              &answer);
  }
  return absl::OkStatus();
}

absl::StatusOr<ConstraintTable::Choice> StepRunner::ChoiceOf(const LogitUse& use,
                                                             Deadline deadline) {
  if (constraints_ == nullptr) {
    return absl::FailedPreconditionError(
        "constraint: this worker was prepared without the vocabulary");
  }
  return constraints_->Next(use.slot, deadline);
}

absl::Status StepRunner::TakeRow(const LogitUse& use, RowResult& row, SequenceResult* answer) {
  TANDEM_RETURN_IF_ERROR(row.status);
  if (row.scored.has_value()) answer->scored.push_back(*std::move(row.scored));
  if (!row.sampled.has_value()) return absl::OkStatus();
  const std::int32_t token = row.sampled->token;
  const SamplingParams& params = slots_.sampling(use.slot);
  if (params.constraint != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> forced,
                            constraints_->Accept(use.slot, token));
    // Log-probabilities are wanted of every token: each then goes through the head.
    if (params.num_logprobs < 0) answer->forced = std::move(forced);
  }
  slots_.SetSampled(use.slot, token);
  answer->sampled = *std::move(row.sampled);
  return absl::OkStatus();
}

bool StepRunner::UseCandidates(std::int32_t micro_batch, std::int32_t row, const LogitUse& use,
                               RowResult* result) {
  if (use.score >= 0 || slots_.sampling(use.slot).needs_all_logits()) return false;
  const std::optional<LogitCandidates> candidates =
      parts_.program->candidates(micro_batch, row, &candidates_);
  if (!candidates.has_value()) return false;
  result->sampled = candidate_sampler_.Sample(*candidates, slots_.sampling(use.slot),
                                              slots_.counts(use.slot), use.position);
  return result->sampled.has_value();
}

absl::Status StepRunner::UseLogits(std::int32_t micro_batch) {
  const MicroBatch& part = batch_.micro_batches[static_cast<std::size_t>(micro_batch)];
  const auto vocab = static_cast<std::size_t>(parts_.bounds.config.vocab_size);
  const std::span<const float> logits = parts_.program->logits(micro_batch);
  if (logits.size() != static_cast<std::size_t>(part.num_uses) * vocab) {
    return absl::InternalError(absl::StrCat("expected ", part.num_uses, " rows of ", vocab,
                                            " logits, found ", logits.size(), " values"));
  }
  const auto use_some = [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t w = begin; w < end; ++w) {
      const auto row = static_cast<std::size_t>(whole_rows_[static_cast<std::size_t>(w)]);
      UseRow(logits.subspan(row * vocab, vocab),
             batch_.uses[static_cast<std::size_t>(part.first_use) + row],
             samplers_[static_cast<std::size_t>(worker)], &row_results_[row]);
    }
  };
  // By reference, so that nothing is allocated.
  sampling_threads_->ParallelFor(static_cast<std::int64_t>(whole_rows_.size()), 1,
                                 std::ref(use_some));
  return absl::OkStatus();
}

void StepRunner::UseRow(std::span<const float> row, const LogitUse& use, Sampler& sampler,
                        RowResult* result) const {
  if (!result->status.ok()) return;
  const SamplingParams& params = slots_.sampling(use.slot);
  if (use.score >= 0) {
    absl::StatusOr<SampledToken> scored = sampler.Score(row, use.score, params.num_logprobs);
    result->status = scored.status();
    if (!scored.ok()) return;
    result->scored = *std::move(scored);
  }
  if (!use.sample) return;
  const ConstraintTable::Choice& choice = result->choice;
  absl::StatusOr<SampledToken> sampled =
      choice.token >= 0 ? sampler.Score(row, choice.token, params.num_logprobs)
                        : sampler.Sample(row, params, slots_.counts(use.slot), use.position,
                                         choice.mask == nullptr ? std::span<const std::uint64_t>()
                                                                : *choice.mask);
  result->status = sampled.status();
  if (sampled.ok()) result->sampled = *std::move(sampled);
}

std::string StepRunner::NameOf(const ListEntry& entry) const {
  if (entry.op == ListOp::kBegin) return "taking the step";
  if (entry.op == ListOp::kSample) return "head";
  return absl::StrCat("stage '", parts_.layout.stages[static_cast<std::size_t>(entry.stage)].name,
                      "'");
}

void StepRunner::Interrupt() {
  interrupted_.store(true);
  for (Edge* edge : parts_.edges) edge->control->Interrupt();
  if (computing_.load()) parts_.program->Cancel();
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
    stage->set_run_seconds(static_cast<double>(stats_[i].run_ns) * 1e-9);
    stage->set_wait_seconds(static_cast<double>(stats_[i].wait_ns) * 1e-9);
  }
  for (std::size_t i = 0; i < parts_.edges.size(); ++i) {
    v1::EdgeDescription* edge = description->add_edges();
    *edge = DescribeEdge(*parts_.edges[i]);
    edge->set_wait_seconds(static_cast<double>(edge_wait_ns_[i]) * 1e-9);
  }
  description->set_steps_done(steps_done_);
  description->set_tokens_done(tokens_done_);
}

}  // namespace tandem
