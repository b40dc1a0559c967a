#include "loader/serve/progress_tracker.h"

#include <utility>

namespace tandem {

ProgressTracker::ProgressTracker(std::uint64_t bytes_total, std::uint32_t tensors_total,
                                 const Clock& clock)
    : clock_(clock), start_(clock.Uptime()) {
  snapshot_.bytes_total = bytes_total;
  snapshot_.tensors_total = tensors_total;
}

void ProgressTracker::Add(const std::string& tensor, std::uint64_t bytes, bool tensor_is_done) {
  const std::lock_guard lock(mutex_);
  snapshot_.bytes_done += bytes;
  if (tensor_is_done) ++snapshot_.tensors_done;
  snapshot_.current = tensor;
}

void ProgressTracker::SetReady() { End(LoadState::kReady, ""); }
void ProgressTracker::SetFailed(const absl::Status& status) {
  End(LoadState::kFailed, std::string(status.message()));
}

void ProgressTracker::End(LoadState state, std::string error) {
  const std::lock_guard lock(mutex_);
  if (snapshot_.state != LoadState::kLoading) return;
  snapshot_.elapsed = clock_.Uptime() - start_;  // stands still from now on
  snapshot_.state = state;
  snapshot_.error = std::move(error);
  snapshot_.current.clear();
  ended_.notify_all();
}

LoadSnapshot ProgressTracker::Get() const {
  const std::lock_guard lock(mutex_);
  LoadSnapshot now = snapshot_;
  if (now.state == LoadState::kReady) now.seconds_left = 0;
  if (now.state != LoadState::kLoading) return now;
  now.elapsed = clock_.Uptime() - start_;
  if (now.bytes_done > 0) {
    const double rate = static_cast<double>(now.bytes_done) /
                        absl::ToDoubleSeconds(now.elapsed + absl::Nanoseconds(1));
    now.seconds_left = static_cast<double>(now.bytes_total - now.bytes_done) / rate;
  }
  return now;
}

void ProgressTracker::WaitForEnd(absl::Duration timeout) {
  std::unique_lock lock(mutex_);
  ended_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                  [&] { return woken_ || snapshot_.state != LoadState::kLoading; });
  woken_ = false;
}

void ProgressTracker::Wake() {
  const std::lock_guard lock(mutex_);
  woken_ = true;
  ended_.notify_all();
}

}  // namespace tandem
