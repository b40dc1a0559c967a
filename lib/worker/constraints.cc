#include "lib/worker/constraints.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "lib/base/status_macros.h"
#include "lib/step/step_plan.h"

namespace tandem {
namespace {

// A grammar that costs too much, or that the vocabulary cannot spell, is what was asked for:
// no lack of room here, and no fault of who made the step.
absl::Status RequestsFault(const absl::Status& status) {
  const bool asked = absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status);
  if (!asked) return Annotate(status, "constraint");
  return absl::OutOfRangeError(absl::StrCat("constraint: ", status.message()));
}

}  // namespace

ConstraintTable::ConstraintTable(std::shared_ptr<MaskCache> cache, std::int32_t slots)
    : cache_(std::move(cache)), slots_(static_cast<std::size_t>(slots)) {
  thread_ = std::thread([this] { Run(); });
}

ConstraintTable::~ConstraintTable() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    work_.notify_all();
  }
  thread_.join();
}

void ConstraintTable::Queue(std::int32_t slot) {
  At(slot).ready = false;
  ++At(slot).job;
  // Once is enough: a job does what the slot needs when it runs.
  if (std::find(queue_.begin(), queue_.end(), slot) == queue_.end()) queue_.push_back(slot);
  work_.notify_one();
}

void ConstraintTable::Start(std::int32_t slot, std::shared_ptr<const Constraint> constraint,
                            std::vector<std::int32_t> generated) {
  const std::lock_guard lock(mutex_);
  Slot& taken = At(slot);
  if (constraint == nullptr && taken.constraint == nullptr) return;
  const std::uint64_t job = taken.job + 1;
  taken = {};
  taken.job = job;
  if (constraint == nullptr) return;
  taken.constraint = std::move(constraint);
  taken.generated = std::move(generated);
  Queue(slot);
}

absl::StatusOr<ConstraintTable::Choice> ConstraintTable::Next(std::int32_t slot,
                                                              Deadline deadline) {
  std::unique_lock lock(mutex_);
  Slot& taken = At(slot);
  Choice choice;
  if (taken.masks == nullptr || taken.forced.empty()) {
    // The step must still come to its end, for its other sequences.
    const auto left = absl::ToChronoNanoseconds(deadline.left() / 2);
    if (!ready_.wait_for(lock, left, [&] { return taken.ready; }))
      return absl::DeadlineExceededError("constraint: its mask was not ready in time");
    TANDEM_RETURN_IF_ERROR(taken.status);
  }
  if (taken.forced.empty()) {
    choice.mask = taken.mask;
  } else {
    choice.token = taken.forced.front();
  }
  return choice;
}

absl::StatusOr<std::vector<std::int32_t>> ConstraintTable::TakeAllForced(TokenMasks& masks,
                                                                         TokenMasks::State* state) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> forced, masks.Forced(*state));
  if (forced.size() > static_cast<std::size_t>(kMaxForcedTokens))
    forced.resize(static_cast<std::size_t>(kMaxForcedTokens));
  for (const std::int32_t token : forced) {
    TANDEM_ASSIGN_OR_RETURN(*state, masks.Accept(*state, token));
  }
  return forced;
}

absl::Status ConstraintTable::Advance(std::int32_t slot, std::int32_t accepted) {
  std::unique_lock lock(mutex_);
  Slot& taken = At(slot);
  const std::shared_ptr<TokenMasks> masks = taken.masks;
  TokenMasks::State state = taken.state;
  // Only calls of this thread change what was read.
  lock.unlock();
  std::vector<std::int32_t> forced;
  const auto advance = [&]() -> absl::Status {
    if (accepted >= 0) {
      TANDEM_ASSIGN_OR_RETURN(state, masks->Accept(state, accepted));
    }
    TANDEM_ASSIGN_OR_RETURN(forced, TakeAllForced(*masks, &state));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(RequestsFault(advance()));
  if (accepted < 0 && forced.empty()) return absl::OkStatus();
  lock.lock();
  taken.state = state;
  taken.forced.assign(forced.begin(), forced.end());
  Queue(slot);
  return absl::OkStatus();
}

absl::Status ConstraintTable::TakeForced(std::int32_t slot, std::int32_t token) {
  {
    const std::lock_guard lock(mutex_);
    Slot& taken = At(slot);
    if (taken.forced.empty() || taken.forced.front() != token) {
      return absl::InvalidArgumentError(absl::StrCat(
          "step: slot ", slot, ": expected the tokens that its constraint forces, found ", token));
    }
    taken.forced.pop_front();
    if (!taken.forced.empty()) return absl::OkStatus();
  }
  return Advance(slot, -1);
}

absl::StatusOr<std::vector<std::int32_t>> ConstraintTable::Accept(std::int32_t slot,
                                                                  std::int32_t token) {
  bool is_forced = false;
  {
    const std::lock_guard lock(mutex_);
    is_forced = !At(slot).forced.empty();
  }
  TANDEM_RETURN_IF_ERROR(is_forced ? TakeForced(slot, token) : Advance(slot, token));
  const std::lock_guard lock(mutex_);
  const std::deque<std::int32_t>& forced = At(slot).forced;
  return std::vector<std::int32_t>(forced.begin(), forced.end());
}

void ConstraintTable::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const std::int32_t slot = queue_.front();
    queue_.pop_front();
    Prepare(slot, lock);
  }
}

void ConstraintTable::Prepare(std::int32_t slot, std::unique_lock<std::mutex>& lock) {
  Slot& taken = At(slot);
  const std::uint64_t job = taken.job;
  if (taken.constraint == nullptr) return;
  const std::shared_ptr<const Constraint> constraint = taken.constraint;
  const std::vector<std::int32_t> generated = std::exchange(taken.generated, {});
  std::shared_ptr<TokenMasks> masks = taken.masks;
  TokenMasks::State state = taken.state;
  std::vector<std::int32_t> forced;
  const bool begins = masks == nullptr;
  std::shared_ptr<const TokenMask> mask;
  lock.unlock();
  const auto prepare = [&]() -> absl::Status {
    if (begins) {
      TANDEM_ASSIGN_OR_RETURN(masks, cache_->Get(constraint->grammar, constraint->stop_tokens));
      TANDEM_ASSIGN_OR_RETURN(state, masks->Start());
      for (const std::int32_t token : generated) {
        TANDEM_ASSIGN_OR_RETURN(state, masks->Accept(state, token));
      }
      TANDEM_ASSIGN_OR_RETURN(forced, TakeAllForced(*masks, &state));
    }
    TANDEM_ASSIGN_OR_RETURN(mask, masks->MaskOf(state));
    return absl::OkStatus();
  };
  const absl::Status status = RequestsFault(prepare());
  lock.lock();
  // The slot has ended or gone on meanwhile; where it needs something, that waits in the queue.
  if (taken.job != job) return;
  if (begins) {
    taken.masks = std::move(masks);
    taken.state = state;
    taken.forced.assign(forced.begin(), forced.end());
  }
  taken.status = status;
  taken.mask = std::move(mask);
  taken.ready = true;
  ready_.notify_all();
}

}  // namespace tandem
