#include "tests/fake_amdxdna/device_copy.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::npu {
namespace {

// What tells exported memory from other files.
constexpr char kName[] = "fake-amdxdna-dma-buf";

}  // namespace

DeviceCopy::~DeviceCopy() {
  if (shared_ != nullptr) munmap(shared_, shared_bytes_);
  if (fd_ >= 0) close(fd_);
}

void DeviceCopy::Swap(DeviceCopy* other) noexcept {
  std::swap(own_, other->own_);
  std::swap(fd_, other->fd_);
  std::swap(shared_, other->shared_);
  std::swap(shared_bytes_, other->shared_bytes_);
}

bool DeviceCopy::IsExported(int fd) {
  char path[32], name[64] = {};
  std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  if (readlink(path, name, sizeof(name) - 1) < 0) return false;
  return std::strncmp(name, "/memfd:", 7) == 0 &&
         std::strncmp(name + 7, kName, sizeof(kName) - 1) == 0;
}

bool DeviceCopy::IsSame(int fd) const {
  struct stat mine {
  }, other{};
  return fd_ >= 0 && fstat(fd_, &mine) == 0 && fstat(fd, &other) == 0 &&
         mine.st_ino == other.st_ino && mine.st_dev == other.st_dev;
}

// Takes the descriptor, whatever comes of it.
int DeviceCopy::Share(int fd) {
  struct stat info {};
  void* at = MAP_FAILED;
  if (fstat(fd, &info) == 0) {
    at = mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ | PROT_WRITE, MAP_SHARED,
              fd, 0);
  }
  if (at == MAP_FAILED) {
    const int error = errno;
    close(fd);
    return -error;
  }
  fd_ = fd;
  shared_ = static_cast<std::byte*>(at);
  shared_bytes_ = static_cast<std::uint64_t>(info.st_size);
  return 0;
}

int DeviceCopy::Import(int fd, DeviceCopy* copy) {
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return own < 0 ? -errno : copy->Share(own);
}

int DeviceCopy::Export() {
  if (shared_ == nullptr) {
    const int fd = memfd_create(kName, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    // A dma-buf's size never changes.
    if (ftruncate(fd, static_cast<off_t>(own_.size())) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
      close(fd);
      return -ENOMEM;
    }
    if (const int error = Share(fd); error != 0) return error;
    std::copy(own_.begin(), own_.end(), shared_);
    own_ = {};
  }
  const int fd = fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  return fd < 0 ? -errno : fd;
}

}  // namespace tandem::npu
