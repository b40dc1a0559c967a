#include "lib/device/cpu/cpu_program.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "lib/base/status_macros.h"

namespace tandem {

CpuExecutor::CpuExecutor() : thread_([this] { Loop(); }) {}

CpuExecutor::~CpuExecutor() {
  {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(first_ == nullptr);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void CpuExecutor::Enqueue(CpuJob* job) {
  {
    std::lock_guard lock(mutex_);
    job->next_ = nullptr;
    (first_ == nullptr ? first_ : last_->next_) = job;
    last_ = job;
  }
  wake_.notify_one();
}

void CpuExecutor::Loop() {
  while (true) {
    CpuJob* job = nullptr;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || first_ != nullptr; });
      if (first_ == nullptr) return;
      job = first_;
      first_ = job->next_;
    }
    job->Run();
  }
}

absl::StatusOr<std::unique_ptr<CpuProgram>> CpuProgram::Make(CpuShared* shared,
                                                             const ModelConfig& config,
                                                             const ProgramSpec& spec) {
  TANDEM_RETURN_IF_ERROR(ValidateCompile(config, spec));
  if (shared->unit != nullptr && spec.activations == ActivationType::kAuto) {
    ProgramSpec chosen = spec;
    chosen.activations = ActivationType::kInt8;
    return Make(shared, config, chosen);
  }
  if (shared->unit != nullptr && spec.activations != ActivationType::kInt8) {
    return absl::UnimplementedError(absl::StrCat(
        shared->unit->name(),
        ": expected int8 activations (--activations=int8 or auto), found float32: its matrix "
        "products take int8"));
  }
  auto program = std::unique_ptr<CpuProgram>(new CpuProgram(shared, config, spec));
  for (const ProgramStage& bound : spec.stages) {
    TANDEM_ASSIGN_OR_RETURN(CpuStage stage, MakeCpuStage(config, spec, bound));
    if (shared->unit != nullptr) {
      TANDEM_RETURN_IF_ERROR(PrepareProducts(stage, MostTokens(bound, spec.limits),
                                             spec.limits.max_logit_rows, shared->unit,
                                             &program->prepared_));
    }
    program->stages_.push_back(std::move(stage));
  }
  TANDEM_RETURN_IF_ERROR(program->work_.scratch.Reserve(ScratchSizesOf(config, spec),
                                                        shared->pool.threads(), &shared->counters));
  const std::size_t logits = program->rules_.head
                                 ? static_cast<std::size_t>(spec.limits.max_logit_rows) *
                                       static_cast<std::size_t>(config.vocab_size) * sizeof(float)
                                 : 0;
  const std::size_t hidden_states =
      program->rules_.head ? static_cast<std::size_t>(spec.limits.max_tokens) *
                                 static_cast<std::size_t>(config.hidden_size) * sizeof(float)
                           : 0;
  const bool keeps = std::any_of(spec.stages.begin(), spec.stages.end(),
                                 [](const ProgramStage& s) { return s.spec.KeepsResidual(); });
  const std::size_t kept = keeps ? static_cast<std::size_t>(spec.limits.max_tokens) *
                                       static_cast<std::size_t>(config.hidden_size) * sizeof(float)
                                 : 0;
  for (std::int32_t i = 0; i < spec.contexts; ++i) {
    Context context(program->rules_);
    TANDEM_RETURN_IF_ERROR(context.kept.Reserve(kept, &shared->counters));
    TANDEM_RETURN_IF_ERROR(context.logits.Reserve(logits, &shared->counters));
    TANDEM_RETURN_IF_ERROR(context.hidden_states.Reserve(hidden_states, &shared->counters));
    program->contexts_.push_back(std::move(context));
  }
  for (Pass& pass : program->passes_) pass.program = program.get();
  return program;
}

CpuProgram::~CpuProgram() {
  Cancel();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] {
    return std::none_of(passes_.begin(), passes_.end(), [](const Pass& p) { return p.running; });
  });
  for (const std::vector<MatrixView>& group : prepared_) shared_->unit->Forget(group);
}

absl::Status CpuProgram::Begin(std::int32_t context, const Step& step) {
  TANDEM_RETURN_IF_ERROR(submissions_.CheckBegin(context));
  submissions_.SetBegun(context, nullptr);
  TANDEM_RETURN_IF_ERROR(ValidateStep(rules_, step));
  contexts_[static_cast<std::size_t>(context)].step.Assign(step);
  submissions_.SetBegun(context, &step);
  return absl::OkStatus();
}

absl::StatusOr<Ticket> CpuProgram::Submit(std::int32_t stage, std::int32_t context,
                                          std::int32_t input_slot, std::int32_t output_slot) {
  TANDEM_RETURN_IF_ERROR(submissions_.CheckSubmit(stage, context, input_slot, output_slot));
  const std::uint64_t ticket = submissions_.next();
  Pass& pass = passes_[submissions_.IndexOf(ticket)];
  pass.stage = &stages_[static_cast<std::size_t>(stage)];
  pass.context = &contexts_[static_cast<std::size_t>(context)];
  pass.input_slot = input_slot;
  pass.output_slot = output_slot;
  pass.cancelled.store(false, std::memory_order_relaxed);
  {
    std::lock_guard lock(mutex_);
    pass.running = true;
  }
  submissions_.Add(stage, context);
  shared_->counters.submissions.fetch_add(1, std::memory_order_relaxed);
  shared_->executor.Enqueue(&pass);
  return Ticket{ticket};
}

absl::Status CpuProgram::Pass::RunStage() {
  const CpuResidual* from = stage->input;
  const CpuResidual* to = stage->output;
  const std::size_t rows = context->step.tokens().size();
  absl::Status synced =
      from == nullptr ? absl::OkStatus() : from->Fetch(input_slot, rows * stage->input_columns);
  if (synced.ok()) {
    RunCpuStage(program->config_, *stage, context->step,
                {from == nullptr ? nullptr : from->slot(input_slot),
                 to == nullptr ? nullptr : to->slot(output_slot), context->kept.as<float>(),
                 context->logits.as<float>(), context->hidden_states.as<float>()},
                &program->work_);
    if (to != nullptr) synced = to->Flush(output_slot, rows * stage->output_columns);
  }
  if (synced.ok()) return program->work_.products.result();
  return absl::UnavailableError(synced.message());
}

void CpuProgram::Pass::Run() {
  program->work_.products.Begin(stage->activations, &cancelled);
  absl::Status status;
  if (!program->work_.products.cancelled()) status = RunStage();
  // Cancelled after the last half, the stage is still whole; where work was skipped the flag was
  // seen before.
  std::lock_guard lock(program->mutex_);
  result = std::move(status);
  if (result.ok() && program->work_.products.cancelled()) {
    result = absl::CancelledError("the step was cancelled");
  }
  running = false;
  // Under the lock: once the waiter sees the state, the program may be destroyed.
  program->done_.notify_all();
}

absl::Status CpuProgram::Wait(Ticket ticket, Deadline deadline) {
  // Bounds what is added to a clock; a wait without end takes several.
  constexpr absl::Duration kLongestWait = absl::Hours(1);
  TANDEM_RETURN_IF_ERROR(submissions_.CheckTicket(ticket));
  while (submissions_.first_open() <= ticket.value) {
    const std::uint64_t first = submissions_.first_open();
    const Pass& pass = passes_[submissions_.IndexOf(first)];
    std::unique_lock lock(mutex_);
    while (pass.running) {
      const absl::Duration left = std::min(deadline.left(), kLongestWait);
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(absl::StrCat(
            submissions_.StageName(submissions_.StageOf(first)), ": the step still runs"));
      }
      done_.wait_for(lock, absl::ToChronoNanoseconds(left));
    }
    // The message of what went well is not made: in steady state a wait allocates nothing.
    submissions_.CloseFirst(
        pass.result.ok()
            ? absl::OkStatus()
            : Annotate(pass.result, submissions_.StageName(submissions_.StageOf(first))));
  }
  return submissions_.ResultOf(ticket.value);
}

void CpuProgram::Cancel() {
  for (Pass& pass : passes_) pass.cancelled.store(true, std::memory_order_relaxed);
}

std::span<const float> CpuProgram::logits(std::int32_t context) const {
  const auto rows = static_cast<std::size_t>(submissions_.LogitRows(context));
  if (rows == 0) return {};
  return {contexts_[static_cast<std::size_t>(context)].logits.as<float>(),
          rows * static_cast<std::size_t>(config_.vocab_size)};
}

std::span<const float> CpuProgram::hidden_states(std::int32_t context) const {
  const auto rows = static_cast<std::size_t>(submissions_.HiddenRows(context));
  if (rows == 0) return {};
  return {contexts_[static_cast<std::size_t>(context)].hidden_states.as<float>(),
          rows * static_cast<std::size_t>(config_.hidden_size)};
}

std::uint64_t CpuProgram::scratch_bytes() const {
  std::uint64_t bytes = work_.scratch.bytes();
  for (const Context& context : contexts_) {
    bytes += context.step.bytes() + context.kept.bytes() + context.logits.bytes() +
             context.hidden_states.bytes();
  }
  return bytes;
}

}  // namespace tandem
