#include "lib/base/shared_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/huge_pages.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

absl::Status Errno(const std::string& what) { return absl::ErrnoToStatus(errno, what); }

absl::StatusOr<SharedMemory> TryCreate(const std::string& name, std::size_t bytes, unsigned flags) {
  SharedMemory memory;
  memory.fd = UniqueFd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  if (!memory.fd.valid()) return Errno(absl::StrCat("memfd '", name, "'"));
  if (::ftruncate(memory.fd.get(), static_cast<off_t>(bytes)) != 0) {
    return Errno(absl::StrCat("memfd '", name, "': sizing to ", bytes, " bytes"));
  }
  memory.bytes = bytes;
  TANDEM_ASSIGN_OR_RETURN(memory.identity, IdentityOf(memory.fd.get()));
  TANDEM_RETURN_IF_ERROR(memory.Map(/*writable=*/true));
  return memory;
}

// Only seeking gives the size of a dma-buf; its file status says 0.
absl::StatusOr<std::uint64_t> SizeOf(int fd) {
  if (IsDmaBuf(fd)) {
    const off_t size = ::lseek(fd, 0, SEEK_END);
    if (size < 0) return Errno("asking a dma-buf for its size");
    ::lseek(fd, 0, SEEK_SET);
    return static_cast<std::uint64_t>(size);
  }
  struct stat info;
  if (::fstat(fd, &info) != 0) return Errno("fstat of a descriptor to map");
  return static_cast<std::uint64_t>(info.st_size);
}

// Maps a file from its start, shared. What has room for a page of 2 MiB starts at a multiple of
// that, so that the file's are mapped whole.
void* MapShared(int fd, std::size_t bytes, int protection) {
  if (bytes < kHugePageBytes) return ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  const std::size_t mapped = RoundUp(bytes, PageSize());
  const std::size_t room = mapped + kHugePageBytes;
  void* const reserved =
      ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return MAP_FAILED;
  auto* const start = static_cast<std::byte*>(reserved);
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::size_t before = RoundUp(address, kHugePageBytes) - address;
  void* const data = ::mmap(start + before, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    ::munmap(reserved, room);
    errno = error;
    return MAP_FAILED;
  }
  if (before > 0) ::munmap(start, before);
  if (before < kHugePageBytes) ::munmap(start + before + mapped, kHugePageBytes - before);
  return data;
}

absl::Status AddSeals(int fd, int seals) {
  if (::fcntl(fd, F_ADD_SEALS, seals) != 0) return Errno("sealing shared memory");
  return absl::OkStatus();
}

}  // namespace

std::size_t PageSize() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, RoundUp(size_, PageSize()));
}

absl::StatusOr<Mapping> Mapping::Map(int fd, std::size_t bytes, bool writable) {
  if (bytes == 0) return absl::InvalidArgumentError("cannot map 0 bytes");
  TANDEM_ASSIGN_OR_RETURN(const std::uint64_t size, SizeOf(fd));
  if (size < bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot map: expected a file of at least ", bytes, " bytes, found ", size));
  }
  void* data = MapShared(fd, bytes, PROT_READ | (writable ? PROT_WRITE : 0));
  if (data == MAP_FAILED) return Errno(absl::StrCat("mapping ", bytes, " bytes"));
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = bytes;
  return mapping;
}

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& name, std::size_t bytes,
                                                  bool huge_pages, bool* got_huge_pages) {
  if (got_huge_pages != nullptr) *got_huge_pages = false;
  if (huge_pages) {
    absl::StatusOr<SharedMemory> memory =
        TryCreate(name, RoundUp(bytes, kHugePageBytes), MFD_HUGETLB | MFD_HUGE_2MB);
    if (memory.ok()) {
      if (got_huge_pages != nullptr) *got_huge_pages = true;
      return memory;
    }
  }
  return TryCreate(name, RoundUp(bytes, PageSize()), 0);
}

std::string_view MemoryKindName(MemoryKind kind) {
  return kind == MemoryKind::kDmaBuf ? "dma-buf" : "memfd";
}

bool IsDmaBuf(int fd) {
  struct statfs info;
  return ::fstatfs(fd, &info) == 0 &&
         static_cast<std::uint32_t>(info.f_type) == static_cast<std::uint32_t>(DMA_BUF_MAGIC);
}

absl::StatusOr<SharedMemory> SharedMemory::Take(UniqueFd fd, std::uint64_t min_bytes) {
  SharedMemory memory;
  memory.kind = IsDmaBuf(fd.get()) ? MemoryKind::kDmaBuf : MemoryKind::kMemfd;
  if (memory.kind == MemoryKind::kMemfd)
    TANDEM_RETURN_IF_ERROR(CheckSealedSize(fd.get(), min_bytes));
  TANDEM_ASSIGN_OR_RETURN(memory.bytes, SizeOf(fd.get()));
  if (memory.bytes < min_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("shared memory: expected a dma-buf of at least ",
                                                   min_bytes, " bytes, found ", memory.bytes));
  }
  TANDEM_ASSIGN_OR_RETURN(memory.identity, IdentityOf(fd.get()));
  memory.fd = std::move(fd);
  return memory;
}

absl::Status SharedMemory::Map(bool writable) {
  TANDEM_ASSIGN_OR_RETURN(mapping, Mapping::Map(fd.get(), bytes, writable));
  return absl::OkStatus();
}

absl::Status SealSize(int fd) { return AddSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW); }

absl::Status SealForGood(int fd) { return AddSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); }

absl::Status CheckSealedSize(int fd, std::size_t min_bytes) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0)
    return absl::InvalidArgumentError(
        "shared memory: expected a memfd, found another kind of file");
  if ((seals & F_SEAL_SHRINK) == 0) {
    return absl::InvalidArgumentError(
        "shared memory: expected a memfd sealed against shrinking, found an unsealed one");
  }
  struct stat info;
  if (::fstat(fd, &info) != 0) return Errno("fstat of shared memory");
  if (static_cast<std::size_t>(info.st_size) < min_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("shared memory: expected at least ", min_bytes,
                                                   " bytes, found ", info.st_size));
  }
  return absl::OkStatus();
}

absl::StatusOr<FileIdentity> IdentityOf(int fd) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return Errno("fstat");
  return FileIdentity{static_cast<std::uint64_t>(info.st_dev),
                      static_cast<std::uint64_t>(info.st_ino)};
}

}  // namespace tandem
