#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/paths.h"
#include "lib/base/fd.h"

namespace tandem {

// What a running cluster leaves in its runtime folder for `status`, `chat`, `down` and the like.
struct ClusterState {
  struct Process {
    std::string name;
    std::int64_t pid = 0;
    std::uint32_t restarts = 0;
    std::string log;
  };
  std::int64_t supervisor_pid = 0;
  std::string http;  // address as bound: "127.0.0.1:8080" or "unix:/path"
  std::string grpc;
  std::string model;
  std::string plan;
  std::string api_key_file;
  std::vector<Process> processes;
};

// Written to a temporary file and renamed: readers see a whole file or the one before.
absl::Status WriteState(const ClusterPaths& paths, const ClusterState& state);
// NOT_FOUND when no cluster of that name runs (a state file whose supervisor is gone counts as
// none).
absl::StatusOr<ClusterState> ReadState(const ClusterPaths& paths);

// Held by the supervisor as long as it lives; the kernel frees it however the process ends.
// ALREADY_EXISTS when the cluster runs.
absl::StatusOr<UniqueFd> TakeLock(const ClusterPaths& paths);

}  // namespace tandem
