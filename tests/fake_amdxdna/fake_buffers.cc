// Buffers of the stand-in for the kernel driver.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/fake_amdxdna/fake_driver.h"

namespace tandem::npu {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kHeapBase = 0x4000000;
constexpr std::uint64_t kHeapBytes = 64 << 20;
constexpr std::uint64_t kHeapAlignment = 32 << 10;

std::uint64_t PageUp(std::uint64_t n) { return (n + kPage - 1) / kPage * kPage; }

bool MayLockMemory() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return (data[0].effective >> CAP_IPC_LOCK & 1) != 0;
}

// Whether the process may write to all of it. The driver pins with FOLL_WRITE: what is mapped for
// reading only it cannot have.
bool IsWritable(std::uint64_t from, std::uint64_t bytes) {
  std::ifstream maps("/proc/self/maps");
  const std::uint64_t end = from + bytes;
  for (std::string line; from < end && std::getline(maps, line);) {
    unsigned long first = 0, last = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &first, &last, mode) != 3 || from >= last)
      continue;
    if (from < first || mode[1] != 'w') return false;
    from = last;
  }
  return from >= end;
}

}  // namespace

std::uint32_t FakeDriver::NewHandle() { return next_handle_++; }

FakeDriver::Buffer* FakeDriver::Find(std::uint32_t handle) {
  const auto found = buffers_.find(handle);
  return found == buffers_.end() ? nullptr : &found->second;
}

int FakeDriver::BackWithMemory(Buffer* buffer) {
  buffer->fd = memfd_create("fake-amdxdna-bo", MFD_CLOEXEC);
  if (buffer->fd < 0) return -errno;
  if (ftruncate(buffer->fd, static_cast<off_t>(buffer->size)) != 0) {
    close(buffer->fd);
    return -ENOMEM;
  }
  if (!buffer->imported) buffer->device = DeviceCopy(buffer->size);
  return 0;
}

int FakeDriver::CreateBuffer(amdxdna_drm_create_bo* a) {
  if (faults_.Next("create_bo") == "nomem") return -ENOMEM;
  Buffer buffer;
  buffer.type = static_cast<int>(a->type);
  buffer.size = PageUp(a->size);
  if (a->vaddr == 0 && (a->size == 0 || buffer.size < a->size)) return -EINVAL;
  int error = -EINVAL;
  if (a->vaddr != 0 && a->type == AMDXDNA_BO_SHARE) {
    error = CreateUserBuffer(*a, &buffer);
  } else if (a->vaddr == 0 && (a->type == AMDXDNA_BO_SHARE || a->type == AMDXDNA_BO_CMD)) {
    error = BackWithMemory(&buffer);
  } else if (a->vaddr == 0 && a->type == AMDXDNA_BO_DEV_HEAP) {
    error = CreateHeap(&buffer);
  } else if (a->vaddr == 0 && a->type == AMDXDNA_BO_DEV) {
    error = CreateHeapPiece(&buffer);
  }
  if (error != 0) {
    Log("buffer of type %u and %lu bytes refused: %s", a->type, static_cast<unsigned long>(a->size),
        std::strerror(-error));
    return error;
  }
  a->handle = NewHandle();
  if (a->type == AMDXDNA_BO_DEV_HEAP) heap_ = a->handle;
  buffers_[a->handle] = std::move(buffer);
  return 0;
}

int FakeDriver::CreateHeap(Buffer* buffer) {
  if (heap_ != 0) return -EBUSY;
  if (buffer->size % kHeapBytes != 0) return -EINVAL;
  buffer->device_address = kHeapBase;
  return BackWithMemory(buffer);
}

int FakeDriver::CreateHeapPiece(Buffer* buffer) {
  const Buffer* heap = Find(heap_);
  // The heap must have been mapped first.
  if (heap == nullptr || heap->host == nullptr || buffer->size > heap->size) return -EINVAL;
  buffer->device_address = HeapPlace(buffer->size);
  if (buffer->device_address == 0) return -ENOSPC;
  buffer->host = heap->host + (buffer->device_address - kHeapBase);
  return 0;
}

// The first gap of `size` bytes between the pieces of the heap, or 0.
std::uint64_t FakeDriver::HeapPlace(std::uint64_t size) const {
  std::map<std::uint64_t, std::uint64_t> pieces;
  for (const auto& [handle, buffer] : buffers_) {
    if (buffer.type == AMDXDNA_BO_DEV) pieces[buffer.device_address] = buffer.size;
  }
  const std::uint64_t end = kHeapBase + buffers_.at(heap_).size;
  std::uint64_t at = kHeapBase;
  for (const auto& [address, bytes] : pieces) {
    if (address - at >= size) return at;
    at = (address + bytes + kHeapAlignment - 1) / kHeapAlignment * kHeapAlignment;
    if (at > end) return 0;
  }
  return end - at >= size ? at : 0;
}

int FakeDriver::CreateUserBuffer(const amdxdna_drm_create_bo& a, Buffer* buffer) {
  const auto* table = reinterpret_cast<const amdxdna_drm_va_tbl*>(a.vaddr);
  // Several pieces are possible; XRT gives one.
  if (table->num_entries != 1) return -EINVAL;
  const amdxdna_drm_va_entry& entry = table->va_entries[0];
  if (entry.vaddr % kPage != 0 || entry.len % kPage != 0 || entry.len == 0) return -EINVAL;
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool limited = options_.pinned_limit.has_value() || !MayLockMemory();
  const std::uint64_t most = options_.pinned_limit.value_or(limit.rlim_cur);
  if (limited && entry.len > most - std::min(most, pinned_bytes_)) return -ENOMEM;
  // Every page must be there, as for pinning; the kernel says so by mincore's error.
  std::vector<unsigned char> resident(entry.len / kPage);
  if (mincore(reinterpret_cast<void*>(entry.vaddr), entry.len, resident.data()) != 0)
    return -ENOMEM;
  if (!IsWritable(entry.vaddr, entry.len)) return -ENOMEM;
  buffer->size = entry.len;
  buffer->host = reinterpret_cast<std::byte*>(entry.vaddr);
  buffer->device_address = entry.vaddr;
  buffer->device = DeviceCopy(entry.len);
  buffer->pinned = true;
  pinned_bytes_ += entry.len;
  return 0;
}

int FakeDriver::BufferInfo(amdxdna_drm_get_bo_info* a) {
  if (a->ext != 0 || a->ext_flags != 0) return -EINVAL;
  const Buffer* buffer = Find(a->handle);
  if (buffer == nullptr) return -ENOENT;
  a->vaddr = buffer->host == nullptr ? AMDXDNA_INVALID_ADDR
                                     : reinterpret_cast<std::uint64_t>(buffer->host);
  a->xdna_addr = buffer->device_address == 0 ? AMDXDNA_INVALID_ADDR : buffer->device_address;
  a->map_offset =
      buffer->type == AMDXDNA_BO_DEV ? AMDXDNA_INVALID_ADDR : std::uint64_t{a->handle} << 32;
  return 0;
}

void* FakeDriver::Map(void* address, std::size_t length, int protection, int flags,
                      std::int64_t offset) {
  const std::lock_guard lock(mutex_);
  Buffer* buffer = Find(static_cast<std::uint32_t>(offset >> 32));
  if (gone_ || buffer == nullptr || buffer->fd < 0 || length > buffer->size) {
    errno = gone_ ? ENODEV : EINVAL;
    return MAP_FAILED;
  }
  void* at = mmap(address, length, protection, flags & ~MAP_LOCKED, buffer->fd, 0);
  if (at == MAP_FAILED) return at;
  if (buffer->host == nullptr) buffer->host = static_cast<std::byte*>(at);
  // Devices of this kind share the process's addresses.
  if (buffer->device_address == 0) buffer->device_address = reinterpret_cast<std::uint64_t>(at);
  return at;
}

int FakeDriver::CloseBuffer(const drm_gem_close& a) {
  const auto found = buffers_.find(a.handle);
  if (found == buffers_.end()) return -EINVAL;
  if (found->second.fd >= 0) close(found->second.fd);
  if (found->second.pinned) pinned_bytes_ -= found->second.size;
  if (a.handle == heap_) heap_ = 0;
  buffers_.erase(found);
  return 0;
}

int FakeDriver::ExportBuffer(drm_prime_handle* a) {
  Buffer* buffer = Find(a->handle);
  // User pointers and pieces of the heap are no objects of their own.
  if (buffer == nullptr) return -ENOENT;
  if (buffer->fd < 0 || buffer->type != AMDXDNA_BO_SHARE) return -EINVAL;
  if (faults_.Next("export") == "refused") return -EOPNOTSUPP;
  const int fd = buffer->device.Export();
  if (fd < 0) return fd;
  a->fd = fd;
  return 0;
}

int FakeDriver::ImportBuffer(drm_prime_handle* a) {
  if (!DeviceCopy::IsExported(a->fd)) {
    Log("import refused: not memory that an NPU allocated");
    return -EINVAL;
  }
  // The same object gives the same handle, as DRM has it.
  for (const auto& [handle, buffer] : buffers_) {
    if (buffer.device.IsSame(a->fd)) {
      a->handle = handle;
      return 0;
    }
  }
  Buffer buffer;
  buffer.type = AMDXDNA_BO_SHARE;
  buffer.imported = true;
  int error = DeviceCopy::Import(a->fd, &buffer.device);
  buffer.size = buffer.device.size();
  if (error == 0) error = BackWithMemory(&buffer);
  if (error != 0) return error;
  a->handle = NewHandle();
  buffers_[a->handle] = std::move(buffer);
  return 0;
}

int FakeDriver::SyncBuffer(const amdxdna_drm_sync_bo& a) {
  Buffer* buffer = Find(a.handle);
  if (buffer == nullptr) return -ENOENT;
  if (a.offset > buffer->size || a.size > buffer->size - a.offset) return -EINVAL;
  if (a.direction != SYNC_DIRECT_TO_DEVICE && a.direction != SYNC_DIRECT_FROM_DEVICE)
    return -EINVAL;
  // An import that nobody mapped has no cache lines to flush.
  if (buffer->host == nullptr) return 0;
  std::byte* device = buffer->device.data();
  if (buffer->type == AMDXDNA_BO_DEV) {
    device = buffers_[heap_].device.data() + (buffer->device_address - kHeapBase);
  }
  if (a.direction == SYNC_DIRECT_TO_DEVICE) {
    std::memcpy(device + a.offset, buffer->host + a.offset, a.size);
  } else {
    std::memcpy(buffer->host + a.offset, device + a.offset, a.size);
  }
  return 0;
}

}  // namespace tandem::npu
