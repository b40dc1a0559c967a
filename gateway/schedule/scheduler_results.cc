// The half of the scheduler that takes results, ends requests and starts over.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/schedule/request.h"
#include "gateway/schedule/scheduler.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// Each further suspicion makes a request prove itself for twice as many tokens, up to 2^this.
constexpr std::int32_t kMostProofDoublings = 6;

// StepResult, const or not.
template <typename Result>
auto Find(Result& result, std::int32_t slot) {
  const auto it = std::find_if(result.sequences.begin(), result.sequences.end(),
                               [slot](const SequenceResult& s) { return s.slot == slot; });
  return it == result.sequences.end() ? nullptr : &*it;
}

// Whether the cluster failed rather than the step: the same step may well succeed later.
bool IsPassing(const StepFailure& failure) {
  const absl::Status& status = failure.status;
  return failure.step_id == 0 || absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsAborted(status) || absl::IsFailedPrecondition(status);
}

// A worker's INVALID_ARGUMENT is about the step, not about what the client sent.
absl::Status OurFault(const absl::Status& status, std::string_view context) {
  const absl::Status named = Annotate(status, context);
  return absl::IsInvalidArgument(named) ? absl::InternalError(named.message()) : named;
}

}  // namespace

absl::Status Scheduler::CheckResult(const InFlight& step, const StepResult& result) const {
  const auto wrong = [&](std::int32_t slot, const auto&... parts) {
    return absl::InternalError(
        absl::StrCat("result of step ", result.step_id, ", slot ", slot, ": expected ", parts...));
  };
  for (const InFlightShare& share : step.shares) {
    if (!share.sample && !share.pool && share.scores == 0) continue;
    if (!requests_.contains(share.request)) continue;
    const SequenceResult* found = Find(result, share.slot);
    if (found == nullptr) return wrong(share.slot, "an entry, found none");
    if (!found->status.ok()) continue;
    if (found->sampled.has_value() != share.sample) {
      return share.sample ? wrong(share.slot, "a sampled token, found none")
                          : wrong(share.slot, "no sampled token, found one");
    }
    if (share.sample &&
        (found->sampled->token < 0 || found->sampled->token >= options_.vocab_size)) {
      return wrong(share.slot, "a token below ", options_.vocab_size, ", found ",
                   found->sampled->token);
    }
    if (!found->forced.empty() && !requests_.at(share.request)->may_jump())
      return wrong(share.slot, "no forced tokens without a constraint, found some");
    if (static_cast<std::int32_t>(found->scored.size()) != share.scores)
      return wrong(share.slot, share.scores, " scores, found ", found->scored.size());
    const std::size_t pooled = share.pool ? static_cast<std::size_t>(options_.hidden_size) : 0;
    if (found->pooled.size() != pooled)
      return wrong(share.slot, pooled, " sums of hidden states, found ", found->pooled.size());
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Update(StepResult* result) {
  const InFlight& step = InFlightAt(0);
  if (in_flight_count_ == 0 || step.step_id != result->step_id) {
    return absl::InternalError(absl::StrCat("result of step ", result->step_id, ": expected step ",
                                            in_flight_count_ == 0 ? 0 : step.step_id));
  }
  TANDEM_RETURN_IF_ERROR(CheckResult(step, *result));
  in_flight_first_ = (in_flight_first_ + 1) % kMostStepsInFlight;
  --in_flight_count_;
  for (const InFlightShare& share : step.shares) {
    // It may have ended while the step ran.
    const auto it = requests_.find(share.request);
    if (it != requests_.end()) Apply(*it->second, share, Find(*result, share.slot));
  }
  return absl::OkStatus();
}

void Scheduler::Apply(Request& request, const InFlightShare& share, SequenceResult* result) {
  // What its constraint asks for cannot be followed: the request is wrong, not the cluster.
  if (result != nullptr && absl::IsOutOfRange(result->status) && request.may_jump()) {
    return Finish(request.id, FinishReason::kError,
                  absl::InvalidArgumentError(result->status.message()));
  }
  if (result != nullptr && !result->status.ok()) {
    return Finish(request.id, FinishReason::kError,
                  OurFault(result->status, "this request could not be computed"));
  }
  if (share.end >= request.proof) {
    request.replays = request.proof = 0;
    if (search_.active()) search_.Leave(request.id);
  }
  if (share.scores > 0) {
    for (SampledToken& score : result->scored) request.scores.push_back(std::move(score));
  }
  if (request.scoring && share.end == request.prompt_size()) {
    request.scoring = false;
    Emit(request.id, RequestEvent::Kind::kPromptScores).scores = std::exchange(request.scores, {});
  }
  if (share.pool) {
    request.pooled.resize(result->pooled.size());
    for (std::size_t i = 0; i < result->pooled.size(); ++i) request.pooled[i] += result->pooled[i];
  }
  if (request.pooling && share.end == request.prompt_size()) {
    request.pooling = false;
    std::vector<float>& mean = Emit(request.id, RequestEvent::Kind::kPooled).pooled;
    for (const double sum : std::exchange(request.pooled, {}))
      mean.push_back(static_cast<float>(sum / request.prompt_size()));
  }
  if (share.sample) {
    TakeAhead(request);
    const std::int32_t token = result->sampled->token;
    const auto& eos = options_.eos_ids;
    if (!request.spec.ignore_eos && std::find(eos.begin(), eos.end(), token) != eos.end())
      return Finish(request.id, FinishReason::kStop, absl::OkStatus());
    request.generated.push_back(token);
    Emit(request.id, RequestEvent::Kind::kToken).token = *std::move(result->sampled);
    AddForced(request, result->forced);
  }
  if (share.end >= request.prompt_size() && request.ahead.empty() && !request.wants_token())
    Finish(request.id, FinishReason::kLength, absl::OkStatus());
}

// Up to the sample that has come: tokens that were forced before it are there with it.
void Scheduler::TakeAhead(Request& request) {
  auto it = request.ahead.begin();
  for (; *it != kSampledToken; ++it) {
    request.generated.push_back(*it);
    Emit(request.id, RequestEvent::Kind::kToken).token.token = *it;
  }
  request.ahead.erase(request.ahead.begin(), it + 1);
}

// forced[i] comes i + 1 tokens after the last one. Steps in flight bring the first ones; the last
// token wanted is always sampled.
void Scheduler::AddForced(Request& request, const std::vector<std::int32_t>& forced) {
  const std::int32_t wanted =
      request.spec.max_tokens - static_cast<std::int32_t>(request.generated.size());
  const auto most = static_cast<std::size_t>(std::clamp(wanted - 1, 0, kMaxForcedTokens));
  for (std::size_t i = request.ahead.size(); i < std::min(forced.size(), most); ++i)
    request.ahead.push_back(forced[i]);
}

RequestEvent& Scheduler::Emit(std::uint64_t id, RequestEvent::Kind kind) {
  RequestEvent& event = events_.emplace_back();
  event.request = id;
  event.kind = kind;
  return event;
}

void Scheduler::FreeBlocks(Request& request) {
  for (const std::int32_t block : request.global_blocks) global_.Give(block);
  for (const std::int32_t block : request.window_blocks) window_.Give(block);
  global_.Unreserve(request.global_reserved);
  window_.Unreserve(request.window_reserved);
}

void Scheduler::Finish(std::uint64_t id, FinishReason reason, absl::Status status) {
  Request& request = *requests_.at(id);
  if (request.slot >= 0) {
    FreeBlocks(request);
    free_slots_.push_back(request.slot);
    ended_.push_back(request.slot);
    std::erase(running_, &request);
  } else {
    std::erase(waiting_, id);
  }
  search_.Leave(id);
  RequestEvent& event = Emit(id, RequestEvent::Kind::kFinish);
  event.reason = reason;
  event.status = std::move(status);
  requests_.erase(id);
}

std::optional<std::uint64_t> Scheduler::Blame(const StepFailure& failure) {
  // All that steps in flight may have computed, and those of them that the failed step held.
  std::vector<std::uint64_t> all;
  std::vector<std::uint64_t> suspects;
  for (std::int32_t i = 0; i < in_flight_count_; ++i) {
    const InFlight& step = InFlightAt(i);
    const bool failed = failure.step_id == 0 || failure.step_id == step.step_id;
    const auto add = [&](std::uint64_t id, std::int32_t end) {
      if (std::find(all.begin(), all.end(), id) == all.end()) all.push_back(id);
      const auto it = requests_.find(id);
      if (!failed || it == requests_.end()) return;
      if (std::find(suspects.begin(), suspects.end(), id) == suspects.end()) suspects.push_back(id);
      it->second->proof = std::max(it->second->proof, end);
    };
    // A start alone can fail a step: its share may come later.
    for (const std::uint64_t id : step.starts) add(id, 1);
    for (const InFlightShare& share : step.shares) add(share.request, share.end);
  }
  if (suspects.empty()) return std::nullopt;
  std::int32_t most_replays = 0;
  for (const std::uint64_t id : suspects)
    most_replays = std::max(most_replays, ++requests_.at(id)->replays);
  const bool passing = IsPassing(failure);
  if (all.size() == 1 && (!passing || most_replays > options_.max_replays)) return suspects[0];
  // A worker that goes away has its reasons, most of the time: only the second time it is theirs.
  if (passing && most_replays == 1 && !search_.active()) return std::nullopt;
  for (const std::uint64_t id : suspects) {
    Request& request = *requests_.at(id);
    request.proof += (1 << std::min(request.suspected, kMostProofDoublings)) - 1;
    ++request.suspected;
  }
  search_.Suspect(suspects);
  return std::nullopt;
}

void Scheduler::Reset(const StepFailure& failure) {
  const std::optional<std::uint64_t> culprit = Blame(failure);
  in_flight_count_ = 0;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    Request& request = **it;
    request.slot = -1;
    request.computed = 0;
    request.ahead.clear();
    request.scores.clear();
    request.pooled.clear();
    request.global_blocks.clear();
    request.window_blocks.clear();
    request.window_left = request.global_reserved = request.window_reserved = 0;
    waiting_.push_front(request.id);
  }
  running_.clear();
  ended_.clear();
  global_.Clear();
  window_.Clear();
  free_slots_.clear();
  for (std::int32_t slot = options_.limits.max_sequences - 1; slot >= 0; --slot)
    free_slots_.push_back(slot);
  next_step_id_ = 1;
  route_ = kDecodeRoute;
  if (!culprit.has_value()) return;
  const absl::Status status =
      IsPassing(failure)
          ? absl::UnavailableError(absl::StrCat(
                "the cluster failed ", options_.max_replays + 1,
                " times in a step of this request alone: ", std::string(failure.status.message())))
          : OurFault(failure.status, "a step of this request alone failed");
  Finish(*culprit, FinishReason::kError, status);
}

void Scheduler::FailAll(const absl::Status& status) {
  in_flight_count_ = 0;
  search_.Clear();
  while (!running_.empty()) Finish(running_.front()->id, FinishReason::kError, status);
  while (!waiting_.empty()) Finish(waiting_.front(), FinishReason::kError, status);
}

void Scheduler::TakeEvents(std::vector<RequestEvent>* events) {
  events->clear();
  std::swap(*events, events_);
}

}  // namespace tandem
