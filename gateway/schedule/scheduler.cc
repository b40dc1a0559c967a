#include "gateway/schedule/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/schedule/request.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

std::int32_t BlocksFor(std::int32_t positions) {
  return (positions + kKvBlockTokens - 1) / kKvBlockTokens;
}

absl::Status CheckAtLeast(const char* name, std::int32_t value, std::int32_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("scheduler option ", name, ": expected at least ", least, ", found ", value));
}

}  // namespace

absl::Status ValidateSchedulerOptions(const SchedulerOptions& o) {
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("limits.max_sequences", o.limits.max_sequences, 1));
  TANDEM_RETURN_IF_ERROR(
      CheckAtLeast("limits.max_tokens", o.limits.max_tokens, o.limits.max_sequences));
  TANDEM_RETURN_IF_ERROR(
      CheckAtLeast("limits.max_logit_rows", o.limits.max_logit_rows, o.limits.max_sequences));
  TANDEM_RETURN_IF_ERROR(
      CheckAtLeast("limits.max_blocks_per_sequence", o.limits.max_blocks_per_sequence, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("context_tokens", o.context_tokens, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("vocab_size", o.vocab_size, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("sliding_window", o.sliding_window, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("global_blocks", o.global_blocks, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("window_blocks", o.window_blocks, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("max_waiting", o.max_waiting, 0));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("mixed_prefill_tokens", o.mixed_prefill_tokens, 1));
  return CheckAtLeast("max_replays", o.max_replays, 0);
}

// What is left of a step's bounds while it is put together.
struct Scheduler::Budget {
  std::int32_t tokens = 0;
  std::int32_t rows = 0;
  std::int32_t prefill = 0;
};

Scheduler::Scheduler(SchedulerOptions options)
    : options_(std::move(options)),
      global_(options_.global_blocks),
      window_(options_.window_blocks) {
  TANDEM_CHECK(ValidateSchedulerOptions(options_).ok());
  for (std::int32_t slot = options_.limits.max_sequences - 1; slot >= 0; --slot)
    free_slots_.push_back(slot);
}

Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;

// The most blocks of the window group that a request holds at once when it is computed `chunk`
// tokens at a time: a chunk sees window - 1 + chunk positions, which touch one block more than they
// fill when they begin inside one.
std::int32_t Scheduler::WindowPeak(const Request& request, std::int32_t chunk) const {
  const std::int32_t seen = options_.sliding_window - 1 + chunk;
  return std::min(BlocksFor(request.positions()), (seen + kKvBlockTokens - 2) / kKvBlockTokens + 1);
}

absl::Status Scheduler::CheckRequest(const GenerationRequest& request) const {
  if (request.prompt.empty())
    return absl::InvalidArgumentError("prompt: expected at least one token, found none");
  for (std::size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] < 0 || request.prompt[i] >= options_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("prompt: token ", i, ": expected 0 to ",
                                                     options_.vocab_size - 1, ", found ",
                                                     request.prompt[i]));
    }
  }
  const std::int32_t least = request.score_prompt ? 0 : 1;
  if (request.max_tokens < least) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens: expected at least ", least, ", found ", request.max_tokens));
  }
  const std::int64_t total = static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens;
  if (total > options_.context_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt (", request.prompt.size(), " tokens) and max_tokens (",
                     request.max_tokens, ") together: expected at most the context of ",
                     options_.context_tokens, " tokens, found ", total));
  }
  return ValidateSamplingParams(request.sampling, options_.vocab_size);
}

absl::Status Scheduler::Add(std::uint64_t id, GenerationRequest request) {
  TANDEM_CHECK(!requests_.contains(id));
  TANDEM_RETURN_IF_ERROR(CheckRequest(request));
  auto added = std::make_unique<Request>();
  added->id = id;
  added->scoring = request.score_prompt;
  added->spec = std::move(request);
  const std::int32_t global = BlocksFor(added->positions());
  const std::int32_t most_global =
      std::min(options_.limits.max_blocks_per_sequence, global_.size());
  const std::int32_t window = WindowPeak(*added, options_.limits.max_tokens);
  if (global > most_global || window > window_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt and max_tokens together need ", global, " blocks of ", kKvBlockTokens,
                     " tokens in the KV cache (", window, " in the sliding window's): there are ",
                     most_global, " and ", window_.size()));
  }
  const std::size_t most = static_cast<std::size_t>(options_.limits.max_sequences) +
                           static_cast<std::size_t>(options_.max_waiting);
  if (requests_.size() >= most) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", running(), " requests run and ", waiting(), " wait"));
  }
  requests_.emplace(id, std::move(added));
  waiting_.push_back(id);
  return absl::OkStatus();
}

bool Scheduler::Cancel(std::uint64_t id) {
  if (!requests_.contains(id)) return false;
  Finish(id, FinishReason::kCancelled, absl::OkStatus());
  return true;
}

void Scheduler::Admit(StepPlan* plan) {
  while (!waiting_.empty() && !free_slots_.empty()) {
    Request& request = *requests_.at(waiting_.front());
    const std::int32_t global = BlocksFor(request.positions());
    const std::int32_t window = WindowPeak(request, options_.limits.max_tokens);
    if (!global_.Reserve(global)) return;
    if (!window_.Reserve(window)) {
      global_.Unreserve(global);
      return;
    }
    request.global_reserved = global;
    request.window_reserved = window;
    request.slot = free_slots_.back();
    free_slots_.pop_back();
    running_.push_back(request.id);
    waiting_.pop_front();
    plan->starts.push_back({request.slot, request.spec.sampling, request.generated});
  }
}

std::optional<StepPlan> Scheduler::Schedule() {
  TANDEM_CHECK(!in_flight_.has_value());
  StepPlan plan;
  Admit(&plan);
  if (running_.empty()) return std::nullopt;

  in_flight_.emplace();
  Budget budget{options_.limits.max_tokens, options_.limits.max_logit_rows,
                options_.limits.max_tokens};
  for (const std::uint64_t id : running_) {
    Request& request = *requests_.at(id);
    if (request.left() == 1) Place(request, 1, &budget, &plan);
  }
  if (!plan.sequences.empty()) budget.prefill = options_.mixed_prefill_tokens;
  for (const std::uint64_t id : running_) {
    Request& request = *requests_.at(id);
    if (request.left() > 1) PlacePrefill(request, &budget, &plan);
  }
  TANDEM_CHECK(!plan.sequences
                    .empty());  // max_sequences <= max_tokens, max_logit_rows: somebody always fits
  plan.step_id = next_step_id_++;
  in_flight_->step_id = plan.step_id;
  std::sort(ended_.begin(), ended_.end());
  plan.ends = std::exchange(ended_, {});
  return plan;
}

void Scheduler::PlacePrefill(Request& request, Budget* budget, StepPlan* plan) {
  std::int32_t count = std::min({request.left(), budget->tokens, budget->prefill});
  if (request.scoring) {
    count = std::min(count, budget->rows);
  } else if (count == request.left() && budget->rows == 0) {
    --count;  // its last token would sample, and there is no row left for that
  }
  if (count <= 0) return;
  budget->prefill -= count;
  Place(request, count, budget, plan);
}

void Scheduler::Place(Request& request, std::int32_t count, Budget* budget, StepPlan* plan) {
  SequenceShare share;
  const std::int32_t end = request.computed + count;
  share.slot = request.slot;
  share.first_position = request.computed;
  share.tokens.reserve(static_cast<std::size_t>(count));
  for (std::int32_t position = request.computed; position < end; ++position)
    share.tokens.push_back(request.token(position));
  share.sample = end == request.size() && request.wants_token();
  share.score = request.scoring;
  if (share.score && end < request.size()) share.next_token = request.token(end);

  while (static_cast<std::int32_t>(request.global_blocks.size()) < BlocksFor(end)) {
    TANDEM_CHECK(static_cast<std::int32_t>(request.global_blocks.size()) < request.global_reserved);
    request.global_blocks.push_back(global_.Take());
    share.new_global_blocks.push_back(request.global_blocks.back());
  }
  MoveWindow(request, count, &share);

  const std::int32_t scores = share.score ? count - (share.next_token < 0 ? 1 : 0) : 0;
  in_flight_->shares.push_back({request.id, request.slot, count, scores, share.sample});
  budget->tokens -= count;
  budget->rows -= share.score ? count : (share.sample ? 1 : 0);
  (count == 1 && share.sample ? plan->decode_tokens : plan->prefill_tokens) += count;
  plan->sequences.push_back(std::move(share));
}

void Scheduler::MoveWindow(Request& request, std::int32_t count, SequenceShare* share) {
  const std::int32_t first_seen = std::max(0, request.computed - options_.sliding_window + 1);
  while (request.window_left < first_seen / kKvBlockTokens) {
    window_.Give(request.window_blocks.front());
    request.window_blocks.pop_front();
    ++request.window_left;
  }
  if (request.left() == 1) {  // from now on one token at a time: less is enough
    const std::int32_t peak = WindowPeak(request, 1);
    if (peak < request.window_reserved) {
      window_.Unreserve(request.window_reserved - peak);
      request.window_reserved = peak;
    }
  }
  const std::int32_t needed = BlocksFor(request.computed + count) - request.window_left;
  while (static_cast<std::int32_t>(request.window_blocks.size()) < needed) {
    TANDEM_CHECK(static_cast<std::int32_t>(request.window_blocks.size()) < request.window_reserved);
    request.window_blocks.push_back(window_.Take());
    share->new_window_blocks.push_back(request.window_blocks.back());
  }
  share->window_blocks_left = request.window_left;
}

}  // namespace tandem
