#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <utility>

namespace tandem {

// Ends waits from another thread. Whoever is about to wait on something says how that wait is cut
// short; Cancel does so, for the waits of now and those that come later. Any thread.
class Cancellation {
 public:
  // While it lives Cancel calls `end`, once; at once where Cancel came before. `end` runs under a
  // lock that the destructor takes too: what it touches may go when the guard is gone. It must not
  // block.
  class Guard {
   public:
    Guard(Cancellation& owner, std::function<void()> end) : owner_(owner) {
      const std::lock_guard lock(owner_.mutex_);
      if (owner_.cancelled_) end();
      at_ = owner_.ends_.insert(owner_.ends_.end(), std::move(end));
    }
    ~Guard() {
      const std::lock_guard lock(owner_.mutex_);
      owner_.ends_.erase(at_);
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    Cancellation& owner_;
    std::list<std::function<void()>>::iterator at_;
  };

  void Cancel() {
    const std::lock_guard lock(mutex_);
    if (cancelled_) return;
    cancelled_ = true;
    for (const std::function<void()>& end : ends_) end();
  }
  bool cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }

 private:
  mutable std::mutex mutex_;
  bool cancelled_ = false;
  std::list<std::function<void()>> ends_;
};

}  // namespace tandem
