#include "lib/device/cpu/cpu_executor.h"

#include "lib/base/status_macros.h"

namespace tandem {

CpuExecutor::CpuExecutor() : thread_([this] { Loop(); }) {}

CpuExecutor::~CpuExecutor() {
  {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(first_ == nullptr);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void CpuExecutor::Enqueue(CpuJob* job) {
  {
    std::lock_guard lock(mutex_);
    job->next_ = nullptr;
    (first_ == nullptr ? first_ : last_->next_) = job;
    last_ = job;
  }
  wake_.notify_one();
}

void CpuExecutor::Loop() {
  while (true) {
    CpuJob* job = nullptr;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || first_ != nullptr; });
      if (first_ == nullptr) return;
      job = first_;
      first_ = job->next_;
    }
    std::lock_guard lock(running_);
    job->Run();
  }
}

}  // namespace tandem
