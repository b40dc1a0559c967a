#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/dispatch/cluster.h"

namespace tandem {

// The metrics pages of the cluster's other processes, over connections of their own: they answer
// before the cluster serves, and reading them does not stand before steps. Any thread.
class ProcessMetrics {
 public:
  ProcessMetrics(const std::string& loader_address, const std::vector<ClusterWorker>& workers);
  // Ends what is being read; the callbacks are over then.
  ~ProcessMetrics();
  ProcessMetrics(const ProcessMetrics&) = delete;
  ProcessMetrics& operator=(const ProcessMetrics&) = delete;

  struct Process {
    std::string name;
    // loader, gpu, npu
    std::string role;
  };
  const std::vector<Process>& processes() const { return processes_; }

  // `done` comes once, on a thread of gRPC's or on this one, within some seconds. NOT_FOUND for a
  // name that is none of processes(), UNAVAILABLE or DEADLINE_EXCEEDED where it does not answer.
  using Done = std::function<void(absl::StatusOr<std::string> text)>;
  void Read(const std::string& process, Done done);

 private:
  struct Impl;
  std::vector<Process> processes_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
