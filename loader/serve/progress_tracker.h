#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lib/base/clock.h"

namespace tandem {

enum class LoadState : std::uint8_t { kLoading, kReady, kFailed };

struct LoadSnapshot {
  LoadState state = LoadState::kLoading;
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  std::uint32_t tensors_done = 0;
  std::uint32_t tensors_total = 0;
  absl::Duration elapsed;
  double seconds_left = -1;  // negative while unknown
  std::string current;       // tensor that was last worked on
  std::string error;         // kFailed: one line
};

// What is known of a running load. Any thread.
class ProgressTracker {
 public:
  ProgressTracker(std::uint64_t bytes_total, std::uint32_t tensors_total, const Clock& clock);

  void Add(const std::string& tensor, std::uint64_t bytes, bool tensor_is_done);
  void SetReady();
  void SetFailed(const absl::Status& status);
  LoadSnapshot Get() const;
  // Waits until the state is no longer kLoading, Wake was called, or `timeout` is over.
  void WaitForEnd(absl::Duration timeout);
  void Wake();

 private:
  void End(LoadState state, std::string error);

  const Clock& clock_;
  const absl::Duration start_;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  LoadSnapshot snapshot_;  // guarded by mutex_, elapsed and seconds_left filled in by Get
  bool woken_ = false;     // guarded by mutex_
};

}  // namespace tandem
