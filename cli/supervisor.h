#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cli/cluster_files.h"
#include "cli/process.h"
#include "cli/reporter.h"
#include "cli/up_options.h"
#include "cli/watcher.h"
#include "lib/service/process.h"

namespace tandem {

// Starts the processes of a cluster, keeps them running and stops them. One thread; it waits in
// poll for child deaths, signals and news.
//
// Until the cluster is ready, a process that ends with an exit code ends the start: its own error
// line is the error. A process that is killed, or ends later, is started again, after 0.2 s, 0.4 s,
// ... up to 10 s; a process that ran for a minute starts from 0.2 s again. A start that the system
// refuses (no process or descriptor left) is tried again in the same way once all have been
// started.
class Supervisor {
 public:
  using Spawner = std::function<absl::StatusOr<ChildProcess>(
      const std::vector<std::string>& command, const std::string& log_file)>;
  Supervisor(UpOptions options, ClusterPaths paths, Reporter* reporter, Spawner spawn = Spawn);
  ~Supervisor();

  // Called once the cluster answers requests (for `up --detach` and `./demo`).
  using OnReady = std::function<void()>;

  // Returns OK after SIGINT or SIGTERM and a clean stop; an error when the start failed (everything
  // is stopped then, too).
  absl::Status Run(const OnReady& on_ready);

 private:
  struct Child {
    ProcessSpec spec;
    ChildProcess process;
    bool running = false;
    absl::Time started;
    absl::Time restart_at = absl::InfiniteFuture();
    int failures = 0;  // in a row, for the backoff
    std::uint32_t restarts = 0;
  };

  absl::Status StartAll();
  absl::Status Start(Child* child);
  absl::Status OnChildEnd(Child* child);
  void PlanRestart(Child* child, const std::string& why);
  void RestartDue();
  absl::Status HandleNews(const OnReady& on_ready);
  absl::Status Loop(const OnReady& on_ready);
  void StopAll();
  void StopChildren(ProcessKind kind, absl::Duration grace);
  void SayReady(const v1::ClusterStatus& status);
  void SaveState() const;

  UpOptions options_;
  ClusterPaths paths_;
  Reporter* reporter_;
  const Spawner spawn_;
  std::string program_folder_;
  UniqueFd lock_;
  std::optional<StopSignals> signals_;
  std::vector<Child> children_;
  std::unique_ptr<Watcher> watcher_;
  std::string http_;
  std::string grpc_;
  std::string last_state_;
  bool ready_ = false;
};

}  // namespace tandem
