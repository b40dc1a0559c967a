#include "lib/worker/step_loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

// Jobs that wait at once: queued, running, and as many again whose answers are being sent.
constexpr std::size_t kMaxFreeJobs = 2 * StepLoop::kMaxQueuedSteps;

void SetFailed(absl::Status status, StepJob* job) {
  job->result.step_id = job->plan.step_id;
  job->result.generation = job->plan.generation;
  job->result.status = std::move(status);
  job->result.sequences.clear();
  job->result.run = job->result.wait = absl::ZeroDuration();
  job->result.begin_unix_ns = job->result.end_unix_ns = absl::GetCurrentTimeNanos();
}

}  // namespace

StepLoop::StepLoop(Hooks hooks) : hooks_(std::move(hooks)) {
  queue_.reserve(kMaxQueuedSteps);
  answers_.reserve(kMaxFreeJobs);
  free_.reserve(kMaxFreeJobs);
  thread_ = std::thread([this] { Run(); });
  answering_ = std::thread([this] { Answer(); });
}

StepLoop::~StepLoop() {
  Remove("the worker stops");
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    answers_changed_.notify_all();
  }
  answering_.join();
}

void StepLoop::Install(std::unique_ptr<StepWork> runner) {
  std::lock_guard lock(mutex_);
  TANDEM_CHECK(runner_ == nullptr);
  runner_ = std::move(runner);
}

std::unique_ptr<StepJob> StepLoop::NewJob() {
  std::lock_guard lock(mutex_);
  if (free_.empty()) return std::make_unique<StepJob>();
  std::unique_ptr<StepJob> job = std::move(free_.back());
  free_.pop_back();
  return job;
}

void StepLoop::Enqueue(std::unique_ptr<StepJob> job) {
  // Here, so that the thread that runs steps need not.
  job->result.sequences.reserve(job->plan.sequences.size());
  std::lock_guard lock(mutex_);
  if (runner_ == nullptr || stopping_) {
    SetFailed(absl::FailedPreconditionError("step: expected Prepare and Connect first"), job.get());
    AddAnswer(std::move(job));
  } else if (queue_.size() >= kMaxQueuedSteps) {
    SetFailed(absl::ResourceExhaustedError(
                  absl::StrCat("step: ", kMaxQueuedSteps, " steps are queued already")),
              job.get());
    AddAnswer(std::move(job));
  } else {
    queue_.push_back(std::move(job));
    changed_.notify_all();
  }
}

void StepLoop::AddAnswer(std::unique_ptr<StepJob> job) {
  answers_.push_back(std::move(job));
  answers_changed_.notify_one();
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
    RunFirst(lock);
  }
}

void StepLoop::RunFirst(std::unique_lock<std::mutex>& lock) {
  std::unique_ptr<StepJob> job = std::move(queue_.front());
  queue_.erase(queue_.begin());
  running_ = job.get();
  StepWork* const runner = runner_.get();
  lock.unlock();

  const absl::Status device = runner->Run(job->plan, &job->result);
  if (!device.ok()) hooks_.on_device_lost(device);
  const absl::Status& status = job->result.status;
  if (!status.ok()) spdlog::warn("step {}: {}", job->plan.step_id, status.ToString());

  lock.lock();
  running_ = nullptr;
  runner->ClearInterrupt();
  failed_ = !status.ok() && !absl::IsInvalidArgument(status);
  AddAnswer(std::move(job));
  // Take waits for the end of the running step.
  if (paused_) changed_.notify_all();
}

// The thread that answers.
void StepLoop::Answer() {
  std::unique_lock lock(mutex_);
  while (true) {
    answers_changed_.wait(lock, [&] { return ended_ || !answers_.empty(); });
    if (answers_.empty()) return;
    std::unique_ptr<StepJob> job = std::move(answers_.front());
    answers_.erase(answers_.begin());
    lock.unlock();
    job->sink->OnResult(job->result);
    job->sink.reset();
    lock.lock();
    if (free_.size() < kMaxFreeJobs) free_.push_back(std::move(job));
  }
}

void StepLoop::CancelQueued(const Matches& matches, const std::string& reason) {
  for (std::unique_ptr<StepJob>& job : queue_) {
    if (!matches(*job)) continue;
    SetFailed(absl::CancelledError(absl::StrCat("step: ", reason)), job.get());
    AddAnswer(std::move(job));
  }
  std::erase(queue_, nullptr);
}

void StepLoop::Cancel(const Matches& matches, const std::string& reason) {
  std::lock_guard lock(mutex_);
  CancelQueued(matches, reason);
  if (running_ != nullptr && matches(*running_)) runner_->Interrupt();
}

void StepLoop::Abort(std::uint64_t generation, const std::string& reason) {
  Cancel([&](const StepJob& job) { return job.plan.generation == generation; },
         absl::StrCat("aborted: ", reason));
}

void StepLoop::AbortFor(const StepSink* sink, const std::string& reason) {
  Cancel([&](const StepJob& job) { return job.sink.get() == sink; }, reason);
}

std::unique_ptr<StepWork> StepLoop::Take(const std::string& reason, bool interrupt) {
  const auto all = [](const StepJob&) { return true; };
  std::unique_lock lock(mutex_);
  CancelQueued(all, reason);
  if (interrupt && running_ != nullptr) runner_->Interrupt();
  paused_ = true;
  changed_.wait(lock, [&] { return running_ == nullptr; });
  paused_ = false;
  CancelQueued(all, reason);
  return std::move(runner_);
}

std::unique_ptr<StepWork> StepLoop::Remove(const std::string& reason) {
  return Take(reason, /*interrupt=*/true);
}
std::unique_ptr<StepWork> StepLoop::Drain() {
  return Take("the worker drains", /*interrupt=*/false);
}

void StepLoop::Describe(v1::WorkerDescription* description) const {
  std::lock_guard lock(mutex_);
  if (runner_ != nullptr) runner_->Describe(description);
}

}  // namespace tandem
