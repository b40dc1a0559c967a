#include "cli/cluster_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLongestSocketPath = 107;  // sockaddr_un
constexpr std::size_t kLongestProcessName = 24;  // "npu12.fd.sock" and the like, with room
constexpr std::size_t kMaxStateBytes = 1 << 20;
constexpr char kStateFile[] = "state.json";
constexpr char kLockFile[] = "lock";

// An absolute path, as the XDG base directory specification wants it; others do not count.
std::string FolderFromEnvironment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr || value[0] != '/' ? "" : value;
}

// Of an open folder or file: it must be ours, and nobody else's to write.
absl::Status CheckOurs(int fd, bool folder, const std::string& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, Cat("'", path, "'"));
  const bool kind = folder ? S_ISDIR(info.st_mode) : S_ISREG(info.st_mode);
  if (kind && info.st_uid == ::getuid() && (info.st_mode & 022) == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrFormat(
      "'%s': expected a %s of uid %d that nobody else can write to, found one of uid %d with mode "
      "%04o: it is not used",
      path, folder ? "folder" : "file", ::getuid(), info.st_uid, info.st_mode & 07777));
}

absl::StatusOr<UniqueFd> OpenPart(int parent, const std::string& part, bool create,
                                  const std::string& path) {
  if (create && ::mkdirat(parent, part.c_str(), 0700) != 0 && errno != EEXIST)
    return absl::ErrnoToStatus(errno, Cat("cannot create folder '", path, "'"));
  UniqueFd fd(::openat(parent, part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ELOOP || errno == ENOTDIR) {
      return absl::PermissionDeniedError(
          Cat("'", path, "': expected a folder, found a link or a file: it is not used"));
    }
    return absl::ErrnoToStatus(errno, Cat("folder '", path, "'"));
  }
  // One that is ours is put right; the check refuses the others.
  if (create) (void)::fchmod(fd.get(), 0700);
  TANDEM_RETURN_IF_ERROR(CheckOurs(fd.get(), /*folder=*/true, path));
  return fd;
}

absl::StatusOr<UniqueFd> WalkFolder(const PrivateFolder& folder, bool create) {
  if (create) {
    std::error_code error;
    std::filesystem::create_directories(folder.base, error);
    if (error) {
      return absl::UnavailableError(
          Cat("cannot create folder '", folder.base, "': ", error.message()));
    }
  }
  UniqueFd fd(::open(folder.base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, Cat("folder '", folder.base, "'"));
  std::string path = folder.base;
  for (const std::string& part : folder.parts) {
    path += "/" + part;
    TANDEM_ASSIGN_OR_RETURN(fd, OpenPart(fd.get(), part, create, path));
  }
  return fd;
}

absl::Status NotRunning(const ClusterPaths& paths) {
  return absl::NotFoundError(
      Cat("no cluster '", paths.name, "' is running (start one with: tandem up --model PATH)"));
}

// A file of the runtime folder that is ours. NOT_FOUND when there is none.
absl::StatusOr<UniqueFd> OpenOurs(const ClusterPaths& paths, const char* name) {
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd folder, OpenPrivateFolder(paths.runtime_folder));
  const std::string path = Cat(paths.runtime, "/", name);
  UniqueFd fd(::openat(folder.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, Cat("'", path, "'"));
  TANDEM_RETURN_IF_ERROR(CheckOurs(fd.get(), /*folder=*/false, path));
  return fd;
}

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path) {
  std::string text(kMaxStateBytes, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, Cat("'", path, "'"));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  return text;
}

struct flock WholeFile() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

absl::StatusOr<ClusterState> ParseState(const std::string& text) {
  ClusterState state;
  try {
    const Json json = Json::parse(text);
    state.supervisor_pid = json.at("supervisor_pid").get<std::int64_t>();
    state.http = json.at("http").get<std::string>();
    state.grpc = json.at("grpc").get<std::string>();
    state.model = json.at("model").get<std::string>();
    state.plan = json.at("plan").get<std::string>();
    for (const Json& p : json.at("processes")) {
      state.processes.push_back({p.at("name").get<std::string>(), p.at("pid").get<std::int64_t>(),
                                 p.at("restarts").get<std::uint32_t>(),
                                 p.at("log").get<std::string>()});
    }
  } catch (const Json::exception& e) {
    return absl::DataLossError(e.what());
  }
  return state;
}

}  // namespace

std::string PrivateFolder::Path() const { return Cat(base, "/", absl::StrJoin(parts, "/")); }

absl::StatusOr<ClusterPaths> PathsOf(const std::string& cluster) {
  const bool allowed = !cluster.empty() && cluster.size() <= 32 &&
                       std::all_of(cluster.begin(), cluster.end(), [](char c) {
                         return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
                       });
  if (!allowed) {
    return absl::InvalidArgumentError(
        Cat("--cluster: expected 1 to 32 characters of a-z, 0-9 and '-', found '", cluster, "'"));
  }
  ClusterPaths paths;
  paths.name = cluster;
  const std::string ours = Cat("tandem-", ::getuid());
  const std::string runtime = FolderFromEnvironment("XDG_RUNTIME_DIR");
  paths.runtime_folder = runtime.empty() ? PrivateFolder{"/tmp", {ours, cluster}}
                                         : PrivateFolder{runtime, {"tandem", cluster}};
  const std::string state = FolderFromEnvironment("XDG_STATE_HOME");
  const std::string home = FolderFromEnvironment("HOME");
  const std::vector<std::string> below = {"tandem", cluster, "logs"};
  if (!state.empty()) {
    paths.log_folder = {state, below};
  } else if (!home.empty()) {
    paths.log_folder = {home + "/.local/state", below};
  } else {
    paths.log_folder = {"/tmp", {ours, "state", "tandem", cluster, "logs"}};
  }
  paths.runtime = paths.runtime_folder.Path();
  paths.logs = paths.log_folder.Path();
  if (paths.runtime.size() + 1 + kLongestProcessName > kLongestSocketPath) {
    return absl::InvalidArgumentError(
        Cat("runtime folder '", paths.runtime, "': expected at most ",
            kLongestSocketPath - kLongestProcessName - 1, " bytes (sockets live in it), found ",
            paths.runtime.size(), "; set XDG_RUNTIME_DIR to a shorter path"));
  }
  return paths;
}

absl::StatusOr<UniqueFd> OpenPrivateFolder(const PrivateFolder& folder) {
  return WalkFolder(folder, /*create=*/false);
}

absl::Status CreateFolders(const ClusterPaths& paths) {
  TANDEM_RETURN_IF_ERROR(WalkFolder(paths.runtime_folder, /*create=*/true).status());
  return WalkFolder(paths.log_folder, /*create=*/true).status();
}

absl::StatusOr<std::string> ProgramFolder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::UnavailableError(Cat("cannot read /proc/self/exe: ", error.message()));
  return self.parent_path().string();
}

absl::Status WriteState(const ClusterPaths& paths, const ClusterState& state) {
  Json processes = Json::array();
  for (const ClusterState::Process& p : state.processes) {
    processes.push_back(
        {{"name", p.name}, {"pid", p.pid}, {"restarts", p.restarts}, {"log", p.log}});
  }
  const Json json = {{"supervisor_pid", state.supervisor_pid},
                     {"http", state.http},
                     {"grpc", state.grpc},
                     {"model", state.model},
                     {"plan", state.plan},
                     {"processes", processes}};
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd folder, OpenPrivateFolder(paths.runtime_folder));
  const std::string temporary = Cat(kStateFile, ".new");
  const auto failed = [&](int error) {
    return absl::ErrnoToStatus(error, Cat("state file '", paths.runtime, "/", kStateFile, "'"));
  };
  UniqueFd file(::openat(folder.get(), temporary.c_str(),
                         O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return failed(errno);
  const ssize_t written = ::write(file.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) return failed(written < 0 ? errno : ENOSPC);
  file.Reset();
  if (::renameat(folder.get(), temporary.c_str(), folder.get(), kStateFile) != 0)
    return failed(errno);
  return absl::OkStatus();
}

absl::StatusOr<ClusterState> ReadState(const ClusterPaths& paths) {
  TANDEM_RETURN_IF_ERROR(LockHolder(paths).status());
  const absl::StatusOr<UniqueFd> file = OpenOurs(paths, kStateFile);
  if (absl::IsNotFound(file.status())) return NotRunning(paths);
  TANDEM_RETURN_IF_ERROR(file.status());
  const std::string path = Cat(paths.runtime, "/", kStateFile);
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadAll(file->get(), path));
  absl::StatusOr<ClusterState> state = ParseState(text);
  if (!state.ok()) return Annotate(state.status(), Cat("state file '", path, "'"));
  return state;
}

absl::StatusOr<UniqueFd> TakeLock(const ClusterPaths& paths) {
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd folder, OpenPrivateFolder(paths.runtime_folder));
  const std::string path = Cat("lock file '", paths.runtime, "/", kLockFile, "'");
  UniqueFd fd(::openat(folder.get(), kLockFile, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, path);
  TANDEM_RETURN_IF_ERROR(CheckOurs(fd.get(), /*folder=*/false, path));
  struct flock lock = WholeFile();
  if (::fcntl(fd.get(), F_SETLK, &lock) == 0) return fd;
  if (errno != EACCES && errno != EAGAIN) return absl::ErrnoToStatus(errno, path);
  return absl::AlreadyExistsError(
      Cat("cluster '", paths.name, "' is running already (tandem status, tandem down)"));
}

absl::StatusOr<pid_t> LockHolder(const ClusterPaths& paths) {
  const absl::StatusOr<UniqueFd> file = OpenOurs(paths, kLockFile);
  if (absl::IsNotFound(file.status())) return NotRunning(paths);
  TANDEM_RETURN_IF_ERROR(file.status());
  struct flock lock = WholeFile();
  if (::fcntl(file->get(), F_GETLK, &lock) != 0)
    return absl::ErrnoToStatus(errno, Cat("lock file '", paths.runtime, "/", kLockFile, "'"));
  if (lock.l_type == F_UNLCK) return NotRunning(paths);
  if (lock.l_pid <= 0) {
    return absl::UnavailableError(
        Cat("cluster '", paths.name, "' runs in another container: its process is not seen here"));
  }
  return lock.l_pid;
}

}  // namespace tandem
