#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/base/fd.h"

namespace tandem {

// A folder that must be ours alone: `base` belongs to the person's surroundings and is trusted as
// it is ($XDG_RUNTIME_DIR, /tmp); each of `parts` below it must be a folder, no link, of our own
// uid, that nobody else can write to.
struct PrivateFolder {
  std::string base;
  std::vector<std::string> parts;
  std::string Path() const;
};

// Where a local cluster keeps its things, by cluster name. Folders follow the XDG base directory
// specification.
struct ClusterPaths {
  std::string name;
  // sockets, lock, state.json: $XDG_RUNTIME_DIR/tandem/NAME, else /tmp/tandem-UID/NAME
  PrivateFolder runtime_folder;
  // $XDG_STATE_HOME/tandem/NAME/logs, else ~/.local/state/tandem/NAME/logs
  PrivateFolder log_folder;
  std::string runtime;  // the paths of both
  std::string logs;

  std::string Log(const std::string& process) const { return logs + "/" + process + ".log"; }
  std::string StateFile() const { return runtime + "/state.json"; }
};

// INVALID_ARGUMENT when the name is not [a-z0-9-]{1,32}, or sockets under it would have too long a
// path. Touches no file.
absl::StatusOr<ClusterPaths> PathsOf(const std::string& cluster);

// Opens the folder step by step. NOT_FOUND when it is not there; PERMISSION_DENIED, with what was
// found, when a part of it is not ours alone.
absl::StatusOr<UniqueFd> OpenPrivateFolder(const PrivateFolder& folder);
// Creates what is missing of both folders, with mode 0700.
absl::Status CreateFolders(const ClusterPaths& paths);

// The folder that holds this executable: the other programs of Tandem stand beside it.
absl::StatusOr<std::string> ProgramFolder();

// What a running cluster leaves in its runtime folder for `status`, `chat`, `down` and the like.
struct ClusterState {
  struct Process {
    std::string name;
    std::int64_t pid = 0;  // 0 while it is not running
    std::uint32_t restarts = 0;
    std::string log;
  };
  std::int64_t supervisor_pid = 0;
  std::string http;  // address as bound: "127.0.0.1:8080" or "unix:/path"
  std::string grpc;
  std::string model;
  std::string plan;
  std::vector<Process> processes;
};

// Written to a temporary file and renamed: readers see a whole file or the one before.
absl::Status WriteState(const ClusterPaths& paths, const ClusterState& state);
// NOT_FOUND when no cluster of that name runs (a state file whose supervisor is gone counts as
// none). PERMISSION_DENIED when folder or file are not ours: nothing in them is believed then.
absl::StatusOr<ClusterState> ReadState(const ClusterPaths& paths);

// Held by the supervisor as long as it lives; the kernel frees it however the process ends. It is a
// lock of the process (fcntl): no other descriptor of the file may be opened and closed in it.
// ALREADY_EXISTS when the cluster runs.
absl::StatusOr<UniqueFd> TakeLock(const ClusterPaths& paths);
// The process that holds the lock now, as the kernel knows it; takes nothing itself. NOT_FOUND when
// no cluster of that name runs; PERMISSION_DENIED as for ReadState.
absl::StatusOr<pid_t> LockHolder(const ClusterPaths& paths);

}  // namespace tandem
