#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lib/worker/step_runner.h"
#include "tandem/v1/worker.pb.h"

namespace tandem {

// Receives results, in the order of the steps, from the loop's thread; must not block.
class StepSink {
 public:
  virtual ~StepSink() = default;
  virtual void OnResult(v1::StepResult result) = 0;
};

// The thread that runs steps in the order of their arrival, and the bounded queue before it. Any
// thread may call.
class StepLoop {
 public:
  static constexpr std::size_t kMaxQueuedSteps = 64;

  struct Hooks {
    std::function<void(const absl::Status&)>
        on_device_lost;  // from the loop's thread; the process should end
    std::function<void()>
        on_idle;  // between steps: after a failed one, and every idle_interval without any
    absl::Duration idle_interval = absl::Seconds(10);
  };
  explicit StepLoop(Hooks hooks);
  ~StepLoop();

  // Steps run with `runner` from now on.
  void Install(std::unique_ptr<StepRunner> runner);
  // Everything queued and running answers CANCELLED; returns the runner (or null) when nothing uses
  // it any more.
  std::unique_ptr<StepRunner> Remove(const std::string& reason);
  // The same, but the running step may finish.
  std::unique_ptr<StepRunner> Drain();

  // Answers at once when the queue is full (RESOURCE_EXHAUSTED) or nothing is installed
  // (FAILED_PRECONDITION).
  void Enqueue(v1::StepPlan plan, std::shared_ptr<StepSink> sink);
  // Cancels everything queued and running: of `generation`; of `sink`.
  void Abort(std::uint64_t generation, const std::string& reason);
  void AbortFor(const StepSink* sink, const std::string& reason);

  // Stages, edges and counts of the runner, if there is one.
  void Describe(v1::WorkerDescription* description) const;

 private:
  struct Item {
    v1::StepPlan plan;
    std::shared_ptr<StepSink> sink;
  };
  void Run();
  // With mutex_ held. Queued steps that match are moved to the result.
  std::deque<Item> TakeQueued(const std::function<bool(const Item&)>& matches);
  std::unique_ptr<StepRunner> Take(const std::string& reason, bool interrupt);
  void Cancel(const std::function<bool(const Item&)>& matches, const std::string& reason);
  static void AnswerCancelled(std::deque<Item> items, const std::string& reason);

  const Hooks hooks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;
  const Item* running_ = nullptr;
  bool failed_ = false;  // on_idle is due
  bool paused_ = false;  // no step starts
  bool stopping_ = false;
  std::unique_ptr<StepRunner> runner_;
  std::thread thread_;
};

}  // namespace tandem
