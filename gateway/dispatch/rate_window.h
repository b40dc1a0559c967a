#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace tandem {

// Events a second over the last ten seconds, in buckets of one. Time is a Duration since some fixed
// moment and never runs back.
class RateWindow {
 public:
  static constexpr std::int64_t kSeconds = 10;

  void Add(std::int64_t count, absl::Duration now) {
    Bucket& bucket = buckets_[static_cast<std::size_t>(absl::ToInt64Seconds(now) % kSeconds)];
    if (bucket.second != absl::ToInt64Seconds(now)) bucket = {absl::ToInt64Seconds(now), 0};
    bucket.count += count;
  }
  // Over the time since the first bucket that is still in the window began, so that a start is not
  // seen as slowness.
  double PerSecond(absl::Duration now) const {
    const std::int64_t second = absl::ToInt64Seconds(now);
    std::int64_t count = 0;
    std::int64_t first = second;
    for (const Bucket& bucket : buckets_) {
      if (bucket.count == 0 || bucket.second <= second - kSeconds) continue;
      count += bucket.count;
      first = bucket.second < first ? bucket.second : first;
    }
    const double seconds = absl::ToDoubleSeconds(now) - static_cast<double>(first);
    return count == 0 ? 0.0 : static_cast<double>(count) / (seconds < 1.0 ? 1.0 : seconds);
  }

 private:
  struct Bucket {
    std::int64_t second = -1;
    std::int64_t count = 0;
  };
  std::array<Bucket, kSeconds> buckets_;
};

}  // namespace tandem
