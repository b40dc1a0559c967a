#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "loader/serve/progress_tracker.h"
#include "tandem/v1/loader.pb.h"

namespace tandem {

class WatchReactor;

// Sends the progress to all who watch: ten messages a second at most, the final one at once.
class WatchHub {
 public:
  static constexpr std::size_t kMaxWatchers = 64;

  explicit WatchHub(ProgressTracker& tracker);
  ~WatchHub();  // after the server has ended all calls
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // The reactor of a new call. RESOURCE_EXHAUSTED for one more than kMaxWatchers.
  grpc::ServerWriteReactor<v1::LoadProgress>* NewWatcher();

 private:
  friend class WatchReactor;
  void Run();
  void Remove(WatchReactor* reactor);
  v1::LoadProgress Message() const;

  ProgressTracker& tracker_;
  std::mutex mutex_;
  std::set<WatchReactor*> watchers_;  // guarded by mutex_
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace tandem
