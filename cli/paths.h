#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// Where a local cluster keeps its things, by cluster name. Folders follow the XDG base directory
// specification.
struct ClusterPaths {
  std::string name;
  // sockets, lock, state.json: $XDG_RUNTIME_DIR/tandem/NAME, else /tmp/tandem-UID/NAME
  std::string runtime;
  std::string logs;  // $XDG_STATE_HOME/tandem/NAME/logs, else ~/.local/state/tandem/NAME/logs

  std::string Socket(const std::string& process) const { return runtime + "/" + process + ".sock"; }
  std::string Log(const std::string& process) const { return logs + "/" + process + ".log"; }
  std::string StateFile() const { return runtime + "/state.json"; }
  std::string LockFile() const { return runtime + "/lock"; }
};

// INVALID_ARGUMENT when the name is not [a-z0-9-]{1,32}, or sockets under it would have too long a
// path.
absl::StatusOr<ClusterPaths> PathsOf(const std::string& cluster);
// Creates the folders, private to the user (0700). A folder that belongs to somebody else is
// PERMISSION_DENIED.
absl::Status CreateFolders(const ClusterPaths& paths);

// The folder that holds this executable: the other programs of Tandem stand beside it.
absl::StatusOr<std::string> ProgramFolder();

}  // namespace tandem
