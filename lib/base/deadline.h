#pragma once

#include "absl/time/time.h"
#include "lib/base/clock.h"

namespace tandem {

// A moment by which something must have happened, on the monotonic clock: neither a change of the
// wall clock nor a suspend of the machine makes it pass. For waits inside a process; it means
// nothing in another one.
class Deadline {
 public:
  static Deadline After(absl::Duration duration) {
    return Deadline(Clock::Real().Uptime() + duration);
  }
  static Deadline Never() { return Deadline(absl::InfiniteDuration()); }

  bool never() const { return at_ == absl::InfiniteDuration(); }
  // Zero or less when it has passed.
  absl::Duration left() const { return never() ? at_ : at_ - Clock::Real().Uptime(); }
  bool passed() const { return left() <= absl::ZeroDuration(); }
  // Since the clock's start, as Clock::Uptime counts.
  absl::Duration at() const { return at_; }

 private:
  explicit Deadline(absl::Duration at) : at_(at) {}
  absl::Duration at_;
};

}  // namespace tandem
