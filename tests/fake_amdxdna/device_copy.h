#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::npu {

// What devices see of a buffer: bytes that only a sync moves. Once the buffer is exported they lie
// in a memfd, so that what imports it sees what the NPU sees, and not what waits in the
// processor's cache.
class DeviceCopy {
 public:
  DeviceCopy() = default;
  explicit DeviceCopy(std::uint64_t bytes) : own_(bytes) {}
  DeviceCopy(DeviceCopy&& other) noexcept { Swap(&other); }
  DeviceCopy& operator=(DeviceCopy&& other) noexcept {
    Swap(&other);
    return *this;
  }
  ~DeviceCopy();

  // Of memory that Export gave out. -errno, or 0.
  static int Import(int fd, DeviceCopy* copy);
  // A descriptor for another process or device; or -errno.
  int Export();
  // Whether `fd` is such memory, of whatever process: the stand-in's dma-bufs.
  static bool IsExported(int fd);
  // Whether `fd` is this very memory.
  bool IsSame(int fd) const;

  std::byte* data() { return shared_ == nullptr ? own_.data() : shared_; }
  std::uint64_t size() const { return shared_ == nullptr ? own_.size() : shared_bytes_; }

 private:
  void Swap(DeviceCopy* other) noexcept;
  int Share(int fd);

  std::vector<std::byte> own_;
  int fd_ = -1;
  std::byte* shared_ = nullptr;
  std::uint64_t shared_bytes_ = 0;
};

}  // namespace tandem::npu
