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

absl::Status CheckRange(const char* name, std::int32_t value, std::int32_t least,
                        std::int32_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("scheduler option ", name, ": expected ", least,
                                                 " to ", most, ", found ", value));
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
  if (o.limits.max_decode_tokens != 0) {
    TANDEM_RETURN_IF_ERROR(CheckRange("limits.max_decode_tokens", o.limits.max_decode_tokens,
                                      o.limits.max_sequences, o.limits.max_tokens));
  }
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("context_tokens", o.context_tokens, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("vocab_size", o.vocab_size, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("hidden_size", o.hidden_size, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("sliding_window", o.sliding_window, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("global_blocks", o.global_blocks, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("window_blocks", o.window_blocks, 1));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("max_waiting", o.max_waiting, 0));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("mixed_prefill_tokens", o.mixed_prefill_tokens, 1));
  TANDEM_RETURN_IF_ERROR(CheckRange("steps_in_flight", o.steps_in_flight, 1, kMostStepsInFlight));
  TANDEM_RETURN_IF_ERROR(CheckRange("micro_batches", o.micro_batches, 1, kMostMicroBatches));
  TANDEM_RETURN_IF_ERROR(
      CheckRange("prefill_micro_batches", o.prefill_micro_batches, 0, kMostMicroBatches));
  TANDEM_RETURN_IF_ERROR(CheckAtLeast("min_micro_batch_tokens", o.min_micro_batch_tokens, 1));
  const std::int64_t least = SharesBytesBound(o.limits) + StartBytesBound({}, o.context_tokens);
  if (o.max_step_bytes < least) {
    return absl::InvalidArgumentError(
        absl::StrCat("scheduler option max_step_bytes: expected at least ", least,
                     " for these limits, found ", o.max_step_bytes));
  }
  return CheckAtLeast("max_replays", o.max_replays, 0);
}

// What is left of a step's bounds while it is put together.
struct Scheduler::Budget {
  std::int32_t tokens = 0;
  std::int32_t rows = 0;
  std::int32_t prefill = 0;
  std::int64_t start_bytes = 0;
  // Shares placed so far; the plan's vector may be longer until the step is complete.
  std::size_t shares = 0;
  InFlight* step = nullptr;
};

Scheduler::Scheduler(SchedulerOptions options)
    : options_(std::move(options)),
      global_(options_.global_blocks),
      window_(options_.window_blocks) {
  TANDEM_CHECK(ValidateSchedulerOptions(options_).ok());
  running_.reserve(static_cast<std::size_t>(options_.limits.max_sequences));
  for (std::int32_t slot = options_.limits.max_sequences - 1; slot >= 0; --slot)
    free_slots_.push_back(slot);
}

void Scheduler::Resize(const SchedulerSizes& sizes) {
  TANDEM_CHECK(running_.empty() && in_flight_count_ == 0);
  options_.global_blocks = sizes.global_blocks;
  options_.window_blocks = sizes.window_blocks;
  options_.micro_batches = sizes.micro_batches;
  options_.prefill_micro_batches = sizes.prefill_micro_batches;
  options_.limits.max_tokens = sizes.max_tokens;
  options_.limits.max_decode_tokens = sizes.max_decode_tokens;
  TANDEM_CHECK(ValidateSchedulerOptions(options_).ok());
  global_ = BlockPool(sizes.global_blocks);
  window_ = BlockPool(sizes.window_blocks);
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
  const std::int32_t least = request.score_prompt || request.pool_prompt ? 0 : 1;
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
  if (options_.encoder) TANDEM_RETURN_IF_ERROR(CheckEncoderRequest(request));
  TANDEM_RETURN_IF_ERROR(ValidateSamplingParams(request.sampling, options_.vocab_size));
  const std::int64_t bytes = StartBytesBound(request.sampling, request.max_tokens);
  const std::int64_t most = options_.max_step_bytes - SharesBytesBound(options_.limits);
  if (bytes > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_bias (", request.sampling.logit_bias.size(),
                     " entries) and max_tokens (", request.max_tokens, ") together take ", bytes,
                     " bytes of a step: expected at most ", most));
  }
  return absl::OkStatus();
}

absl::Status Scheduler::CheckEncoderRequest(const GenerationRequest& request) const {
  if (!request.pool_prompt || request.score_prompt || request.max_tokens > 0) {
    return absl::InvalidArgumentError(
        "the model is an encoder, which embeds texts: it generates and scores none");
  }
  const auto tokens = static_cast<std::int64_t>(request.prompt.size());
  if (tokens <= options_.limits.max_tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("prompt (", tokens,
                   " tokens): an encoder computes it in one step: expected at "
                   "most the step's ",
                   options_.limits.max_tokens, " tokens"));
}

absl::Status Scheduler::Add(std::uint64_t id, GenerationRequest request) {
  TANDEM_CHECK(!requests_.contains(id));
  TANDEM_RETURN_IF_ERROR(CheckRequest(request));
  auto added = std::make_unique<Request>();
  added->id = id;
  added->scoring = request.score_prompt;
  added->pooling = request.pool_prompt;
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

Scheduler::InFlight& Scheduler::InFlightAt(std::int32_t index) {
  return in_flight_[static_cast<std::size_t>((in_flight_first_ + index) % kMostStepsInFlight)];
}

const Scheduler::InFlight& Scheduler::InFlightAt(std::int32_t index) const {
  return in_flight_[static_cast<std::size_t>((in_flight_first_ + index) % kMostStepsInFlight)];
}

Scheduler::Admission Scheduler::TryAdmit(Request& request, StepPlan* plan, Budget* budget) {
  if (free_slots_.empty()) return Admission::kNoRoom;
  const std::int64_t bytes =
      StartBytesBound(request.spec.sampling, static_cast<std::int64_t>(request.generated.size()));
  if (bytes > budget->start_bytes) return Admission::kNextStep;
  const std::int32_t global = BlocksFor(request.positions());
  const std::int32_t window = WindowPeak(request, options_.limits.max_tokens);
  if (!global_.Reserve(global)) return Admission::kNoRoom;
  if (!window_.Reserve(window)) {
    global_.Unreserve(global);
    return Admission::kNoRoom;
  }
  budget->start_bytes -= bytes;
  request.global_reserved = global;
  request.window_reserved = window;
  request.global_blocks.reserve(static_cast<std::size_t>(global));
  request.window_blocks.reserve(static_cast<std::size_t>(window));
  request.generated.reserve(static_cast<std::size_t>(request.spec.max_tokens));
  request.ahead.reserve(kMostStepsInFlight + kMaxForcedTokens);
  request.slot = free_slots_.back();
  free_slots_.pop_back();
  running_.push_back(&request);
  budget->step->starts.push_back(request.id);
  plan->starts.push_back({request.slot, request.spec.sampling, request.generated});
  return Admission::kAdmitted;
}

void Scheduler::Admit(StepPlan* plan, Budget* budget) {
  if (!search_.active()) {
    while (!waiting_.empty() &&
           TryAdmit(*requests_.at(waiting_.front()), plan, budget) == Admission::kAdmitted)
      waiting_.pop_front();
    return;
  }
  // A member that finds no room beside those that have left the search already leaves it, too: it
  // runs, and perhaps fails, later.
  const std::vector<std::uint64_t> group(search_.group().begin(), search_.group().end());
  for (const std::uint64_t id : group) {
    Request& request = *requests_.at(id);
    if (request.slot >= 0) continue;
    const Admission admission = TryAdmit(request, plan, budget);
    if (admission == Admission::kNextStep) return;
    if (admission == Admission::kNoRoom) search_.Leave(id);
    if (admission == Admission::kAdmitted) std::erase(waiting_, id);
  }
}

bool Scheduler::Schedule(StepPlan* plan) {
  if (in_flight_count_ == options_.steps_in_flight) return false;
  InFlight& step = InFlightAt(in_flight_count_);
  step.shares.clear();
  step.starts.clear();
  plan->starts.clear();
  plan->decode_tokens = plan->prefill_tokens = 0;
  Budget budget{.tokens = options_.limits.max_tokens,
                .rows = options_.limits.max_logit_rows,
                .prefill = options_.limits.max_tokens,
                .start_bytes = options_.max_step_bytes - SharesBytesBound(options_.limits),
                .step = &step};
  do {
    if (in_flight_count_ == 0) search_.Advance();
    Admit(plan, &budget);
  } while (in_flight_count_ == 0 && search_.active() && search_.group().empty());
  PlaceAll(plan, &budget);
  plan->sequences.resize(budget.shares);
  if (budget.shares == 0) {
    // With nothing placed the whole budget was there, so nobody can have been admitted:
    // max_sequences <= max_tokens, max_logit_rows.
    TANDEM_CHECK(plan->starts.empty());
    return false;
  }
  CutMicroBatches(
      plan->decode_tokens + plan->prefill_tokens,
      plan->route == kPrefillRoute ? options_.prefill_micro_batches : options_.micro_batches,
      options_.min_micro_batch_tokens, &plan->micro_batch_ends);
  if (options_.encoder) MoveToShareEnds(plan->sequences, &plan->micro_batch_ends);
  plan->step_id = step.step_id = next_step_id_++;
  ++in_flight_count_;
  std::sort(ended_.begin(), ended_.end());
  plan->ends.assign(ended_.begin(), ended_.end());
  ended_.clear();
  return true;
}

bool Scheduler::MayRun(const Request& request) const {
  return request.can_go_on() && (!search_.active() || search_.OnTrial(request.id));
}

// Whoever came first goes first: a long prompt is not kept out by short ones.
void Scheduler::PlaceWholePrompts(StepPlan* plan, Budget* budget) {
  if (options_.prefill_micro_batches > 0) plan->route = kPrefillRoute;
  for (Request* request : running_) {
    if (request->left() == 0 || !MayRun(*request)) continue;
    if (request->left() > budget->tokens) return;
    Place(*request, request->left(), plan, budget);
  }
}

// One token is left, or what a constraint has forced behind it. The rest of a prompt is one, too,
// when it is a single token.
bool Scheduler::Decodes(const Request& request) const {
  return MayRun(request) && (request.left() == 1 || (request.computed >= request.prompt_size() &&
                                                     request.left() <= 1 + kMaxForcedTokens));
}

void Scheduler::PlaceAll(StepPlan* plan, Budget* budget) {
  plan->route = kDecodeRoute;
  if (options_.encoder) return PlaceWholePrompts(plan, budget);
  if (options_.prefill_micro_batches == 0) return PlaceMixed(plan, budget);
  const std::int32_t next = route_ == kDecodeRoute ? kPrefillRoute : kDecodeRoute;
  for (const std::int32_t route : {next, route_}) {
    plan->route = route;
    if (route == kDecodeRoute) {
      PlaceDecodes(plan, budget);
    } else {
      PlacePrompts(plan, budget);
    }
    if (budget->shares > 0) break;
  }
  route_ = plan->route;
}

void Scheduler::PlaceDecodes(StepPlan* plan, Budget* budget) {
  const std::int32_t tokens = budget->tokens;
  budget->tokens = std::min(tokens, options_.limits.decode_tokens());
  for (Request* request : running_) {
    if (request->left() == 1 && Decodes(*request)) Place(*request, 1, plan, budget);
  }
  for (Request* request : running_) {
    if (request->left() > 1 && Decodes(*request)) PlacePrefill(*request, plan, budget);
  }
  // Prompts may follow in its place.
  if (budget->shares == 0) budget->tokens = tokens;
}

void Scheduler::PlacePrompts(StepPlan* plan, Budget* budget) {
  if (std::any_of(running_.begin(), running_.end(),
                  [this](const Request* request) { return Decodes(*request); }))
    budget->prefill = options_.mixed_prefill_tokens;
  for (Request* request : running_) {
    if (MayRun(*request) && !Decodes(*request)) PlacePrefill(*request, plan, budget);
  }
}

void Scheduler::PlaceMixed(StepPlan* plan, Budget* budget) {
  for (Request* request : running_) {
    if (request->left() == 1 && MayRun(*request)) Place(*request, 1, plan, budget);
  }
  if (budget->shares > 0) budget->prefill = options_.mixed_prefill_tokens;
  // Those that have begun to answer do not wait for prompts.
  for (const bool answering : {true, false}) {
    for (Request* request : running_) {
      if (request->left() > 1 && (request->computed >= request->prompt_size()) == answering &&
          MayRun(*request))
        PlacePrefill(*request, plan, budget);
    }
  }
}

void Scheduler::PlacePrefill(Request& request, StepPlan* plan, Budget* budget) {
  std::int32_t count = std::min({request.left(), budget->tokens, budget->prefill});
  if (request.scoring) {
    count = std::min(count, budget->rows);
  } else if (count == request.left() && budget->rows == 0 && request.wants_token()) {
    // Its last token would sample, and there is no row left for that.
    --count;
  }
  if (count <= 0) return;
  budget->prefill -= count;
  Place(request, count, plan, budget);
}

void Scheduler::Place(Request& request, std::int32_t count, StepPlan* plan, Budget* budget) {
  if (budget->shares == plan->sequences.size()) plan->sequences.emplace_back();
  SequenceShare& share = plan->sequences[budget->shares++];
  const std::int32_t end = request.computed + count;
  share.request = request.id;
  share.slot = request.slot;
  share.first_position = request.computed;
  share.tokens.clear();
  for (std::int32_t position = request.computed; position < end; ++position)
    share.tokens.push_back(request.token(position));
  share.sample = end == request.size() && request.wants_token();
  share.pool = request.pooling && request.computed < request.prompt_size();
  share.score = request.scoring && request.computed < request.prompt_size();
  share.next_token = share.score && end < request.prompt_size() ? request.token(end) : -1;

  share.new_global_blocks.clear();
  while (static_cast<std::int32_t>(request.global_blocks.size()) < BlocksFor(end)) {
    TANDEM_CHECK(static_cast<std::int32_t>(request.global_blocks.size()) < request.global_reserved);
    request.global_blocks.push_back(global_.Take());
    share.new_global_blocks.push_back(request.global_blocks.back());
  }
  MoveWindow(request, count, &share);

  const std::int32_t scores = share.score ? count - (share.next_token < 0 ? 1 : 0) : 0;
  budget->step->shares.push_back({request.id, request.slot, end, scores, share.sample, share.pool});
  budget->tokens -= count;
  budget->rows -= share.score ? count : (share.sample ? 1 : 0);
  (count == 1 && share.sample ? plan->decode_tokens : plan->prefill_tokens) += count;
  request.computed = end;
  if (share.sample) request.ahead.push_back(kSampledToken);
}

void Scheduler::MoveWindow(Request& request, std::int32_t count, SequenceShare* share) {
  const std::int32_t first_seen = std::max(0, request.computed - options_.sliding_window + 1);
  const std::int32_t leaving = first_seen / kKvBlockTokens - request.window_left;
  if (leaving > 0) {
    const auto begin = request.window_blocks.begin();
    for (auto block = begin; block != begin + leaving; ++block) window_.Give(*block);
    request.window_blocks.erase(begin, begin + leaving);
    request.window_left += leaving;
  }
  if (request.left() == 1) {
    // From now on one token at a time, or what is forced: less is enough.
    const std::int32_t peak = WindowPeak(request, request.may_jump() ? 1 + kMaxForcedTokens : 1);
    if (peak < request.window_reserved) {
      window_.Unreserve(request.window_reserved - peak);
      request.window_reserved = peak;
    }
  }
  share->new_window_blocks.clear();
  const std::int32_t needed = BlocksFor(request.computed + count) - request.window_left;
  while (static_cast<std::int32_t>(request.window_blocks.size()) < needed) {
    TANDEM_CHECK(static_cast<std::int32_t>(request.window_blocks.size()) < request.window_reserved);
    request.window_blocks.push_back(window_.Take());
    share->new_window_blocks.push_back(request.window_blocks.back());
  }
  share->window_blocks_left = request.window_left;
}

}  // namespace tandem
