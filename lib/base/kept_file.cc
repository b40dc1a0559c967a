#include "lib/base/kept_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

std::string Absolute(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && value[0] == '/' ? value : "";
}

// Another user could put there what this one then runs.
absl::Status CheckOwn(int fd, mode_t type, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, path);
  if ((info.st_mode & S_IFMT) == type && info.st_uid == ::geteuid() &&
      (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      Cat(path, ": expected a ", type == S_IFDIR ? "folder" : "file",
          " that belongs to this user and that no other may write"));
}

absl::StatusOr<UniqueFd> OpenFolder(const std::string& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, folder);
  TANDEM_RETURN_IF_ERROR(CheckOwn(fd.get(), S_IFDIR, folder));
  return fd;
}

absl::Status WriteAll(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return absl::ErrnoToStatus(written == 0 ? ENOSPC : errno, path);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

std::string UserCacheFolder() {
  const std::string cache = Absolute("XDG_CACHE_HOME");
  if (!cache.empty()) return cache + "/tandem";
  const std::string home = Absolute("HOME");
  return home.empty() ? "" : home + "/.cache/tandem";
}

KeptFile::KeptFile(const std::string& folder, const std::string& name, std::uint64_t most_bytes)
    : folder_(folder),
      name_(name),
      most_bytes_(most_bytes),
      path_(folder.empty() ? "" : Cat(folder, "/", name)) {}

absl::StatusOr<std::vector<std::byte>> KeptFile::Load() const {
  std::vector<std::byte> bytes;
  if (path_.empty()) return bytes;
  const absl::StatusOr<UniqueFd> folder = OpenFolder(folder_);
  if (absl::IsNotFound(folder.status())) return bytes;
  TANDEM_RETURN_IF_ERROR(folder.status());
  const UniqueFd fd(
      ::openat(folder->get(), name_.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) return bytes;
  if (!fd.valid()) return absl::ErrnoToStatus(errno, path_);
  TANDEM_RETURN_IF_ERROR(CheckOwn(fd.get(), S_IFREG, path_));
  // Whatever the file's length is meanwhile, no more than it was is read.
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return absl::ErrnoToStatus(errno, path_);
  const auto length = static_cast<std::uint64_t>(info.st_size);
  if (length > most_bytes_) return absl::DataLossError(Cat(path_, ": ", length, " bytes"));
  bytes.resize(length);
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, path_);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}

absl::Status KeptFile::Store(std::span<const std::byte> bytes) const {
  if (path_.empty() || bytes.size() > most_bytes_) return absl::OkStatus();
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(folder_).parent_path();
  std::filesystem::create_directories(parent, error);
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, folder_);
  }
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd folder, OpenFolder(folder_));
  static std::atomic<std::uint32_t> count{0};
  const std::string temporary = Cat(name_, ".", ::getpid(), ".", count.fetch_add(1));
  // Of a process with this number that died at it.
  ::unlinkat(folder.get(), temporary.c_str(), 0);
  UniqueFd fd(::openat(folder.get(), temporary.c_str(),
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, Cat(folder_, "/", temporary));
  absl::Status status = WriteAll(fd.get(), bytes, path_);
  fd.Reset();
  if (status.ok() &&
      ::renameat(folder.get(), temporary.c_str(), folder.get(), name_.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, path_);
  }
  if (!status.ok()) ::unlinkat(folder.get(), temporary.c_str(), 0);
  return status;
}

}  // namespace tandem
