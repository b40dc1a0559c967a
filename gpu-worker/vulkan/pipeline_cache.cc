#include "gpu-worker/vulkan/pipeline_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "lib/base/checksum.h"
#include "lib/base/fd.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem::vulkan {
namespace {

constexpr char kMagic[] = "TNDMPLC1";
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kHeaderBytes = kMagicBytes + 2 * sizeof(std::uint64_t);
// Of VkPipelineCacheHeaderVersionOne.
constexpr std::size_t kDriverHeaderBytes = 16 + VK_UUID_SIZE;
// Far more than all kernels take.
constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

template <typename T>
T Read(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

std::string Absolute(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && value[0] == '/' ? value : "";
}

std::string FileName(const PhysicalDevice& device) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string name = "pipelines-";
  for (const std::uint8_t byte : device.cache_uuid) {
    name += kDigits[byte >> 4];
    name += kDigits[byte & 15];
  }
  return name;
}

// Another user could put there what a driver then takes for its own machine code.
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

absl::StatusOr<std::span<const std::byte>> ReadPipelineCache(std::span<const std::byte> file,
                                                             const PhysicalDevice& device) {
  if (file.size() < kHeaderBytes + kDriverHeaderBytes ||
      std::memcmp(file.data(), kMagic, kMagicBytes) != 0) {
    return absl::DataLossError("no kept pipelines of this version");
  }
  const std::span<const std::byte> data = file.subspan(kHeaderBytes);
  const auto bytes = Read<std::uint64_t>(file, kMagicBytes);
  if (bytes != data.size()) {
    return absl::DataLossError(Cat("expected ", bytes, " bytes, found ", data.size()));
  }
  if (Read<std::uint64_t>(file, kMagicBytes + sizeof(std::uint64_t)) != Checksum(data)) {
    return absl::DataLossError("the checksum is wrong");
  }
  if (Read<std::uint32_t>(data, 0) < kDriverHeaderBytes ||
      Read<std::uint32_t>(data, 4) != VK_PIPELINE_CACHE_HEADER_VERSION_ONE ||
      Read<std::uint32_t>(data, 8) != device.vendor_id ||
      Read<std::uint32_t>(data, 12) != device.device_id ||
      std::memcmp(data.data() + 16, device.cache_uuid.data(), VK_UUID_SIZE) != 0) {
    return absl::DataLossError("it is of another device or driver");
  }
  return data;
}

std::vector<std::byte> WritePipelineCache(std::span<const std::byte> data) {
  std::vector<std::byte> file(kHeaderBytes + data.size());
  const std::uint64_t numbers[] = {data.size(), Checksum(data)};
  std::memcpy(file.data(), kMagic, kMagicBytes);
  std::memcpy(file.data() + kMagicBytes, numbers, sizeof(numbers));
  if (!data.empty()) std::memcpy(file.data() + kHeaderBytes, data.data(), data.size());
  return file;
}

PipelineCacheFile::PipelineCacheFile(const std::string& folder, const PhysicalDevice& device)
    : folder_(folder),
      device_(device),
      path_(folder.empty() ? "" : Cat(folder, "/", FileName(device))) {}

absl::StatusOr<std::vector<std::byte>> PipelineCacheFile::Load() const {
  std::vector<std::byte> bytes;
  if (path_.empty()) return bytes;
  const absl::StatusOr<UniqueFd> folder = OpenFolder(folder_);
  if (absl::IsNotFound(folder.status())) return bytes;
  TANDEM_RETURN_IF_ERROR(folder.status());
  const std::string name = FileName(device_);
  const UniqueFd fd(
      ::openat(folder->get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) return bytes;
  if (!fd.valid()) return absl::ErrnoToStatus(errno, path_);
  TANDEM_RETURN_IF_ERROR(CheckOwn(fd.get(), S_IFREG, path_));
  // Whatever the file's length is meanwhile, no more than it was is read.
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return absl::ErrnoToStatus(errno, path_);
  const auto length = static_cast<std::uint64_t>(info.st_size);
  if (length > kMostBytes) return absl::DataLossError(Cat(path_, ": ", length, " bytes"));
  bytes.resize(length);
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, path_);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  const absl::StatusOr<std::span<const std::byte>> data =
      ReadPipelineCache(std::span(bytes).first(have), device_);
  if (!data.ok()) return Annotate(data.status(), path_);
  return std::vector<std::byte>(data->begin(), data->end());
}

absl::Status PipelineCacheFile::Store(std::span<const std::byte> data) const {
  if (path_.empty() || data.size() > kMostBytes - kHeaderBytes) return absl::OkStatus();
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(folder_).parent_path();
  std::filesystem::create_directories(parent, error);
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, folder_);
  }
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd folder, OpenFolder(folder_));
  static std::atomic<std::uint32_t> count{0};
  const std::string name = FileName(device_);
  const std::string temporary = Cat(name, ".", ::getpid(), ".", count.fetch_add(1));
  // Of a process with this number that died at it.
  ::unlinkat(folder.get(), temporary.c_str(), 0);
  UniqueFd fd(::openat(folder.get(), temporary.c_str(),
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, Cat(folder_, "/", temporary));
  absl::Status status = WriteAll(fd.get(), WritePipelineCache(data), path_);
  fd.Reset();
  if (status.ok() && ::renameat(folder.get(), temporary.c_str(), folder.get(), name.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, path_);
  }
  if (!status.ok()) ::unlinkat(folder.get(), temporary.c_str(), 0);
  return status;
}

}  // namespace tandem::vulkan
