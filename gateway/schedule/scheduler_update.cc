// The half of the scheduler that takes results, ends requests and starts over.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/schedule/request.h"
#include "gateway/schedule/scheduler.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

template <typename Result>  // StepResult, const or not
auto Find(Result& result, std::int32_t slot) {
  const auto it = std::find_if(result.sequences.begin(), result.sequences.end(),
                               [slot](const SequenceResult& s) { return s.slot == slot; });
  return it == result.sequences.end() ? nullptr : &*it;
}

}  // namespace

absl::Status Scheduler::CheckResult(const StepResult& result) const {
  if (!in_flight_.has_value() || in_flight_->step_id != result.step_id) {
    return absl::InternalError(absl::StrCat("result of step ", result.step_id, ": expected step ",
                                            in_flight_.has_value() ? in_flight_->step_id : 0));
  }
  for (const InFlightShare& share : in_flight_->shares) {
    if (!share.sample && share.scores == 0) continue;
    const SequenceResult* found = Find(result, share.slot);
    const std::string what =
        absl::StrCat("result of step ", result.step_id, ", slot ", share.slot, ": expected ");
    if (found == nullptr) return absl::InternalError(absl::StrCat(what, "an entry, found none"));
    if (found->sampled.has_value() != share.sample) {
      return absl::InternalError(absl::StrCat(
          what, share.sample ? "a sampled token, found none" : "no sampled token, found one"));
    }
    if (share.sample &&
        (found->sampled->token < 0 || found->sampled->token >= options_.vocab_size)) {
      return absl::InternalError(absl::StrCat(what, "a token below ", options_.vocab_size,
                                              ", found ", found->sampled->token));
    }
    if (static_cast<std::int32_t>(found->scored.size()) != share.scores) {
      return absl::InternalError(
          absl::StrCat(what, share.scores, " scores, found ", found->scored.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Update(StepResult result) {
  TANDEM_RETURN_IF_ERROR(CheckResult(result));
  const InFlight step = *std::exchange(in_flight_, std::nullopt);
  for (const InFlightShare& share : step.shares) {
    const auto it = requests_.find(share.request);
    if (it == requests_.end()) continue;  // cancelled while the step ran
    SequenceResult* found = Find(result, share.slot);
    Apply(*it->second, share, found == nullptr ? SequenceResult{} : std::move(*found));
  }
  return absl::OkStatus();
}

void Scheduler::Apply(Request& request, const InFlightShare& share, SequenceResult result) {
  request.computed += share.tokens;
  if (request.scoring) {
    for (SampledToken& score : result.scored) request.scores.push_back(std::move(score));
    if (request.computed == request.prompt_size()) {
      request.scoring = false;
      request.replays = 0;
      Emit(request.id, RequestEvent::Kind::kPromptScores).scores =
          std::exchange(request.scores, {});
    }
  }
  if (share.sample) {
    request.replays = 0;
    const std::int32_t token = result.sampled->token;
    const auto& eos = options_.eos_ids;
    if (!request.spec.ignore_eos && std::find(eos.begin(), eos.end(), token) != eos.end()) {
      Finish(request.id, FinishReason::kStop, absl::OkStatus());
      return;
    }
    request.generated.push_back(token);
    Emit(request.id, RequestEvent::Kind::kToken).token = *std::move(result.sampled);
  }
  if (request.computed >= request.prompt_size() && !request.wants_token()) {
    Finish(request.id, FinishReason::kLength, absl::OkStatus());
  }
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
    std::erase(running_, id);
  } else {
    std::erase(waiting_, id);
  }
  RequestEvent& event = Emit(id, RequestEvent::Kind::kFinish);
  event.reason = reason;
  event.status = std::move(status);
  requests_.erase(id);
}

void Scheduler::FailStep(const absl::Status& status) {
  if (!in_flight_.has_value()) return;
  const InFlight step = *std::exchange(in_flight_, std::nullopt);
  for (const InFlightShare& share : step.shares) {
    if (requests_.contains(share.request)) Finish(share.request, FinishReason::kError, status);
  }
}

void Scheduler::Reset() {
  std::vector<std::uint64_t> hopeless;
  const std::optional<InFlight> lost = std::exchange(in_flight_, std::nullopt);
  if (lost.has_value()) {
    for (const InFlightShare& share : lost->shares) {
      const auto it = requests_.find(share.request);
      if (it != requests_.end() && ++it->second->replays > options_.max_replays)
        hopeless.push_back(share.request);
    }
  }
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    Request& request = *requests_.at(*it);
    request.slot = -1;
    request.computed = 0;
    request.scores.clear();
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
  for (const std::uint64_t id : hopeless) {
    Finish(id, FinishReason::kError,
           absl::UnavailableError(absl::StrCat("the cluster failed ", options_.max_replays + 1,
                                               " times in a step of this request")));
  }
}

void Scheduler::FailAll(const absl::Status& status) {
  in_flight_.reset();
  while (!running_.empty()) Finish(running_.front(), FinishReason::kError, status);
  while (!waiting_.empty()) Finish(waiting_.front(), FinishReason::kError, status);
}

std::vector<RequestEvent> Scheduler::TakeEvents() { return std::exchange(events_, {}); }

}  // namespace tandem
