#pragma once

#include "absl/time/time.h"

namespace tandem {

// Time as the program sees it. Code that decides by time takes a Clock, so that tests and the
// simulation can turn it.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;         // wall clock, for people
  virtual absl::Duration Uptime() const = 0;  // monotonic, for durations
  static const Clock& Real();                 // lives for ever
};

class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time start = absl::FromUnixSeconds(1'700'000'000))
      : start_(start), now_(start) {}
  absl::Time Now() const override { return now_; }
  absl::Duration Uptime() const override { return now_ - start_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time start_;
  absl::Time now_;
};

}  // namespace tandem
