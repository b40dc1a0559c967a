#include "lib/device/cpu/cpu_stage.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "lib/base/status_macros.h"

namespace tandem {

CpuStepCopy::CpuStepCopy(const StepLimits& limits)
    : table_size_(static_cast<std::size_t>(limits.max_blocks_per_sequence)) {
  tokens_.reserve(static_cast<std::size_t>(limits.max_tokens));
  logit_rows_.reserve(static_cast<std::size_t>(limits.max_logit_rows));
  tables_.resize(2 * static_cast<std::size_t>(limits.max_sequences) * table_size_, kNoBlock);
}

void CpuStepCopy::Assign(const Step& step) {
  tokens_.clear();
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const StepSequence& sequence = step.sequences[s];
    for (std::int32_t i = 0; i < sequence.num_tokens; ++i) {
      tokens_.push_back({step.tokens[static_cast<std::size_t>(sequence.first_token + i)],
                         sequence.first_position + i, static_cast<std::int32_t>(s)});
    }
    // What stands behind the last position is never read.
    const auto copy = [&](std::span<const std::int32_t> from, std::size_t table) {
      std::copy_n(from.begin(), std::min(from.size(), table_size_),
                  tables_.begin() + static_cast<std::ptrdiff_t>(table * table_size_));
    };
    copy(sequence.global_blocks, 2 * s);
    copy(sequence.window_blocks, 2 * s + 1);
  }
  logit_rows_.assign(step.logit_rows.begin(), step.logit_rows.end());
}

absl::StatusOr<std::unique_ptr<CpuStage>> CpuStage::Make(CpuShared* shared,
                                                         const ModelConfig& config,
                                                         const StageSpec& spec,
                                                         const StageBindings& bindings,
                                                         const CompileOptions& options) {
  auto stage = std::unique_ptr<CpuStage>(new CpuStage(shared, config, spec, options));
  stage->bindings_ = bindings;
  TANDEM_ASSIGN_OR_RETURN(stage->plan_, MakeCpuStagePlan(config, spec, bindings, options));
  if (bindings.kv_cache != nullptr) stage->kv_spec_ = bindings.kv_cache->spec();
  stage->input_ = dynamic_cast<const CpuResidual*>(bindings.input);
  stage->output_ = dynamic_cast<const CpuResidual*>(bindings.output);
  if ((bindings.input != nullptr && stage->input_ == nullptr) ||
      (bindings.output != nullptr && stage->output_ == nullptr)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stage '", StageSpecName(spec), "': a residual buffer was made by another device"));
  }
  if (spec.head) {
    const std::size_t logits = static_cast<std::size_t>(options.limits.max_logit_rows) *
                               static_cast<std::size_t>(config.vocab_size);
    TANDEM_RETURN_IF_ERROR(stage->logits_.Reserve(logits * sizeof(float), &shared->counters));
  }
  std::lock_guard lock(shared->executor.running());
  TANDEM_RETURN_IF_ERROR(
      shared->scratch.Reserve(stage->plan_.scratch, shared->pool.threads(), &shared->counters));
  return stage;
}

CpuStage::~CpuStage() {
  Cancel();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return state_ != State::kRunning; });
}

absl::Status CpuStage::CheckSlots(std::int32_t input_slot, std::int32_t output_slot) const {
  const auto check = [&](const CpuResidual* buffer, std::int32_t slot, absl::string_view which) {
    if (buffer == nullptr || (slot >= 0 && slot < buffer->layout().slots)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("stage '", StageSpecName(spec_),
                                                   "': expected an ", which, " slot in [0, ",
                                                   buffer->layout().slots, "), found ", slot));
  };
  TANDEM_RETURN_IF_ERROR(check(input_, input_slot, "input"));
  return check(output_, output_slot, "output");
}

absl::StatusOr<Ticket> CpuStage::Submit(const Step& step, std::int32_t input_slot,
                                        std::int32_t output_slot) {
  if (in_flight_) {
    return absl::FailedPreconditionError(
        absl::StrCat("stage '", StageSpecName(spec_), "': a step is in flight already"));
  }
  TANDEM_RETURN_IF_ERROR(CheckSlots(input_slot, output_slot));
  const KvCacheSpec* kv = bindings_.kv_cache == nullptr ? nullptr : &kv_spec_;
  TANDEM_RETURN_IF_ERROR(ValidateStep(config_, spec_, options_.limits, kv, step));
  step_.Assign(step);
  base_ = input_ == nullptr ? nullptr : input_->slot(input_slot);
  target_ = output_ == nullptr ? nullptr : output_->slot(output_slot);
  cancelled_.store(false, std::memory_order_relaxed);
  {
    std::lock_guard lock(mutex_);
    state_ = State::kRunning;
  }
  in_flight_ = true;
  shared_->counters.submissions.fetch_add(1, std::memory_order_relaxed);
  shared_->executor.Enqueue(this);
  return Ticket{++ticket_};
}

absl::Status CpuStage::Wait(Ticket ticket, absl::Time deadline) {
  if (ticket.value == 0 || ticket.value != ticket_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stage '", StageSpecName(spec_), "': expected ticket ", ticket_, ", found ", ticket.value));
  }
  std::unique_lock lock(mutex_);
  const auto finished = [this] { return state_ == State::kDone; };
  if (deadline == absl::InfiniteFuture()) {
    done_.wait(lock, finished);
  } else if (!done_.wait_until(lock, absl::ToChronoTime(deadline), finished)) {
    return absl::DeadlineExceededError(
        absl::StrCat("stage '", StageSpecName(spec_), "': the step still runs"));
  }
  in_flight_ = false;
  if (was_cancelled_) {
    return absl::CancelledError(
        absl::StrCat("stage '", StageSpecName(spec_), "': the step was cancelled"));
  }
  return absl::OkStatus();
}

std::span<const float> CpuStage::logits() const {
  if (!spec_.head) return {};
  return {logits_.as<float>(),
          step_.logit_rows().size() * static_cast<std::size_t>(config_.vocab_size)};
}

}  // namespace tandem
