#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lib/step/step_plan.h"
#include "lib/worker/step_work.h"

namespace tandem {

// Receives results, in the order in which steps ended; must not block.
class StepSink {
 public:
  virtual ~StepSink() = default;
  virtual void OnResult(const StepResult& result) = 0;
};

// A step on its way through a worker. Jobs are used again, so that steady steps allocate nothing.
struct StepJob {
  StepPlan plan;
  StepResult result;
  std::shared_ptr<StepSink> sink;
};

// The bounded queue of steps, the thread that runs them in the order of their arrival, and the
// thread that answers: a step starts as soon as the one before has ended, whatever it takes to send
// that one's result. Any thread may call.
class StepLoop {
 public:
  static constexpr std::size_t kMaxQueuedSteps = 64;

  struct Hooks {
    // From the loop's thread; the process should end.
    std::function<void(const absl::Status&)> on_device_lost;
    // Between steps: after a failed one, and every idle_interval without any.
    std::function<void()> on_idle;
    absl::Duration idle_interval = absl::Seconds(10);
  };
  explicit StepLoop(Hooks hooks);
  ~StepLoop();

  // Steps run with `runner` from now on.
  void Install(std::unique_ptr<StepWork> runner);
  // Everything queued and running answers CANCELLED; returns the runner (or null) when nothing uses
  // it any more.
  std::unique_ptr<StepWork> Remove(const std::string& reason);
  // The same, but the running step may finish.
  std::unique_ptr<StepWork> Drain();

  // A job to fill, its fields as a step before left them.
  std::unique_ptr<StepJob> NewJob();
  // The plan and the sink are filled. RESOURCE_EXHAUSTED is answered when the queue is full,
  // FAILED_PRECONDITION when nothing is installed.
  void Enqueue(std::unique_ptr<StepJob> job);
  // Cancels everything queued and running: of `generation`; of `sink`.
  void Abort(std::uint64_t generation, const std::string& reason);
  void AbortFor(const StepSink* sink, const std::string& reason);

  // Stages, edges and counts of the runner, if there is one.
  void Describe(v1::WorkerDescription* description) const;

 private:
  using Jobs = std::vector<std::unique_ptr<StepJob>>;
  using Matches = std::function<bool(const StepJob&)>;
  void Run();
  // One step, with `lock` open while it runs.
  void RunFirst(std::unique_lock<std::mutex>& lock);
  void Answer();
  // With mutex_ held.
  void CancelQueued(const Matches& matches, const std::string& reason);
  void AddAnswer(std::unique_ptr<StepJob> job);
  std::unique_ptr<StepWork> Take(const std::string& reason, bool interrupt);
  void Cancel(const Matches& matches, const std::string& reason);

  const Hooks hooks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable answers_changed_;
  Jobs queue_;
  // Ended and not yet answered.
  Jobs answers_;
  Jobs free_;
  const StepJob* running_ = nullptr;
  // on_idle is due.
  bool failed_ = false;
  // No step starts.
  bool paused_ = false;
  bool stopping_ = false;
  // No answers come any more.
  bool ended_ = false;
  std::unique_ptr<StepWork> runner_;
  std::thread thread_;
  std::thread answering_;
};

}  // namespace tandem
