#include "cli/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::size_t kLongestSocketPath = 107;  // sockaddr_un
constexpr std::size_t kLongestProcessName = 24;  // "npu12.fd.sock" and the like, with room

std::string FromEnvironment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
}

absl::Status CreatePrivateFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return absl::UnavailableError(
        absl::StrCat("cannot create folder '", path, "': ", error.message()));
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("folder '", path, "'"));
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::getuid()) {
    return absl::PermissionDeniedError(absl::StrCat(
        "'", path, "': expected a folder of uid ", ::getuid(), ", found one of uid ", info.st_uid));
  }
  if (::chmod(path.c_str(), 0700) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("mode of '", path, "'"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClusterPaths> PathsOf(const std::string& cluster) {
  const bool allowed = !cluster.empty() && cluster.size() <= 32 &&
                       std::all_of(cluster.begin(), cluster.end(), [](char c) {
                         return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
                       });
  if (!allowed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--cluster: expected 1 to 32 characters of a-z, 0-9 and '-', found '", cluster, "'"));
  }
  ClusterPaths paths;
  paths.name = cluster;
  const std::string runtime = FromEnvironment("XDG_RUNTIME_DIR");
  paths.runtime = runtime.empty() ? absl::StrCat("/tmp/tandem-", ::getuid(), "/", cluster)
                                  : absl::StrCat(runtime, "/tandem/", cluster);
  std::string state = FromEnvironment("XDG_STATE_HOME");
  if (state.empty()) {
    const std::string home = FromEnvironment("HOME");
    state =
        home.empty() ? absl::StrCat("/tmp/tandem-", ::getuid(), "/state") : home + "/.local/state";
  }
  paths.logs = absl::StrCat(state, "/tandem/", cluster, "/logs");
  if (paths.runtime.size() + 1 + kLongestProcessName > kLongestSocketPath) {
    return absl::InvalidArgumentError(absl::StrCat(
        "runtime folder '", paths.runtime, "': expected at most ",
        kLongestSocketPath - kLongestProcessName - 1, " bytes (sockets live in it), found ",
        paths.runtime.size(), "; set XDG_RUNTIME_DIR to a shorter path"));
  }
  return paths;
}

absl::Status CreateFolders(const ClusterPaths& paths) {
  TANDEM_RETURN_IF_ERROR(
      CreatePrivateFolder(std::filesystem::path(paths.runtime).parent_path().string()));
  TANDEM_RETURN_IF_ERROR(CreatePrivateFolder(paths.runtime));
  return CreatePrivateFolder(paths.logs);
}

absl::StatusOr<std::string> ProgramFolder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error)
    return absl::UnavailableError(absl::StrCat("cannot read /proc/self/exe: ", error.message()));
  return self.parent_path().string();
}

}  // namespace tandem
