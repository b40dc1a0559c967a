#include "lib/worker/step_loop.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

void Answer(const v1::StepPlan& plan, StepSink& sink, const absl::Status& status) {
  v1::StepResult result;
  result.set_step_id(plan.step_id());
  result.set_generation(plan.generation());
  result.set_code(static_cast<std::int32_t>(status.code()));
  result.set_error(std::string(status.message()));
  sink.OnResult(std::move(result));
}

}  // namespace

StepLoop::StepLoop(Hooks hooks) : hooks_(std::move(hooks)), thread_([this] { Run(); }) {}

StepLoop::~StepLoop() {
  Remove("the worker stops");
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void StepLoop::Install(std::unique_ptr<StepRunner> runner) {
  std::lock_guard lock(mutex_);
  TANDEM_CHECK(runner_ == nullptr);
  runner_ = std::move(runner);
}

void StepLoop::Enqueue(v1::StepPlan plan, std::shared_ptr<StepSink> sink) {
  absl::Status refused;
  {
    std::lock_guard lock(mutex_);
    if (runner_ == nullptr || stopping_) {
      refused = absl::FailedPreconditionError("step: expected Prepare and Connect first");
    } else if (queue_.size() >= kMaxQueuedSteps) {
      refused = absl::ResourceExhaustedError(
          absl::StrCat("step: ", kMaxQueuedSteps, " steps are queued already"));
    } else {
      queue_.push_back({std::move(plan), std::move(sink)});
      changed_.notify_all();
      return;
    }
  }
  Answer(plan, *sink, refused);
}

void StepLoop::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto work = [&] {
      return stopping_ || failed_ || (!queue_.empty() && runner_ != nullptr && !paused_);
    };
    const bool idle =
        !changed_.wait_for(lock, absl::ToChronoNanoseconds(hooks_.idle_interval), work);
    if (stopping_) return;
    if (idle || failed_) {
      failed_ = false;
      lock.unlock();
      hooks_.on_idle();
      lock.lock();
      continue;
    }
    Item item = std::move(queue_.front());
    queue_.pop_front();
    running_ = &item;
    StepRunner* runner = runner_.get();
    lock.unlock();

    v1::StepResult result;
    const absl::Status device = runner->Run(item.plan, &result);
    if (!device.ok()) hooks_.on_device_lost(device);
    if (result.code() != 0)
      spdlog::warn("step {}: code {}: {}", item.plan.step_id(), result.code(), result.error());

    lock.lock();
    running_ = nullptr;
    runner->ClearInterrupt();
    failed_ = result.code() != 0 &&
              result.code() != static_cast<std::int32_t>(absl::StatusCode::kInvalidArgument);
    changed_.notify_all();
    lock.unlock();
    item.sink->OnResult(std::move(result));
    item = {};
    lock.lock();
  }
}

std::deque<StepLoop::Item> StepLoop::TakeQueued(const std::function<bool(const Item&)>& matches) {
  std::deque<Item> taken;
  std::deque<Item> kept;
  for (Item& item : queue_) (matches(item) ? taken : kept).push_back(std::move(item));
  queue_ = std::move(kept);
  return taken;
}

void StepLoop::AnswerCancelled(std::deque<Item> items, const std::string& reason) {
  for (Item& item : items)
    Answer(item.plan, *item.sink, absl::CancelledError(absl::StrCat("step: ", reason)));
}

void StepLoop::Cancel(const std::function<bool(const Item&)>& matches, const std::string& reason) {
  std::deque<Item> cancelled;
  {
    std::lock_guard lock(mutex_);
    cancelled = TakeQueued(matches);
    if (running_ != nullptr && matches(*running_)) runner_->Interrupt();
  }
  AnswerCancelled(std::move(cancelled), reason);
}

void StepLoop::Abort(std::uint64_t generation, const std::string& reason) {
  Cancel([&](const Item& item) { return item.plan.generation() == generation; },
         absl::StrCat("aborted: ", reason));
}

void StepLoop::AbortFor(const StepSink* sink, const std::string& reason) {
  Cancel([&](const Item& item) { return item.sink.get() == sink; }, reason);
}

std::unique_ptr<StepRunner> StepLoop::Take(const std::string& reason, bool interrupt) {
  std::deque<Item> cancelled;
  std::unique_ptr<StepRunner> runner;
  {
    std::unique_lock lock(mutex_);
    cancelled = TakeQueued([](const Item&) { return true; });
    if (interrupt && running_ != nullptr) runner_->Interrupt();
    paused_ = true;
    changed_.wait(lock, [&] { return running_ == nullptr; });
    paused_ = false;
    for (Item& item : TakeQueued([](const Item&) { return true; }))
      cancelled.push_back(std::move(item));
    runner = std::move(runner_);
  }
  AnswerCancelled(std::move(cancelled), reason);
  return runner;
}

std::unique_ptr<StepRunner> StepLoop::Remove(const std::string& reason) {
  return Take(reason, /*interrupt=*/true);
}
std::unique_ptr<StepRunner> StepLoop::Drain() {
  return Take("the worker drains", /*interrupt=*/false);
}

void StepLoop::Describe(v1::WorkerDescription* description) const {
  std::lock_guard lock(mutex_);
  if (runner_ != nullptr) runner_->Describe(description);
}

}  // namespace tandem
