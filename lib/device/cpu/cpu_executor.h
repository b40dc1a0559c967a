#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

namespace tandem {

// Work that the executor's thread runs once for each Enqueue. Owned by the caller, queued at most
// once at a time.
class CpuJob {
 public:
  virtual ~CpuJob() = default;
  virtual void Run() = 0;

 private:
  friend class CpuExecutor;
  CpuJob* next_ = nullptr;
};

// The device's own thread: runs jobs one after another, in the order in which they came. Enqueue
// allocates nothing.
class CpuExecutor {
 public:
  CpuExecutor();
  ~CpuExecutor();  // no job may be queued or running
  void Enqueue(CpuJob* job);
  // Held while a job runs: whoever holds it may change what jobs share.
  std::mutex& running() { return running_; }

 private:
  void Loop();

  std::mutex running_;
  std::mutex mutex_;
  std::condition_variable wake_;
  CpuJob* first_ = nullptr;
  CpuJob* last_ = nullptr;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tandem
