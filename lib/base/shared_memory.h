#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"

namespace tandem {

// A mapping of a file descriptor into this process; unmapped when destroyed. The descriptor may be
// closed before.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Maps `bytes` (> 0; whole pages are mapped) of `fd` from offset 0, shared. Fails when the file
  // (or dma-buf) is shorter than `bytes`.
  static absl::StatusOr<Mapping> Map(int fd, std::size_t bytes, bool writable);

  std::byte* data() const { return data_; }  // page-aligned; null when empty
  std::size_t size() const {
    return size_;
  }  // bytes asked for; the mapping reaches to the end of the last page

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Device and inode: two descriptors with equal identity are the same pages.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};
absl::StatusOr<FileIdentity> IdentityOf(int fd);

// What a descriptor of shared memory is.
enum class MemoryKind : std::uint8_t {
  kMemfd,
  // As the kernel says; what cannot be one is never called so.
  kDmaBuf,
};
std::string_view MemoryKindName(MemoryKind kind);  // "memfd", "dma-buf"
bool IsDmaBuf(int fd);

// Memory that several processes share: regions of weights, residual rings.
struct SharedMemory {
  UniqueFd fd;
  MemoryKind kind = MemoryKind::kMemfd;
  std::uint64_t bytes = 0;
  FileIdentity identity;
  // The host's view; empty where nobody asked for one, or the memory has none.
  Mapping mapping;

  // Creates `bytes` (rounded up to whole pages) of zeroed memory in a memfd, and maps it. With
  // `huge_pages`, reserved 2 MiB pages are asked for first and ordinary ones taken when there are
  // none (*got_huge_pages says which). The name shows in /proc only.
  static absl::StatusOr<SharedMemory> Create(const std::string& name, std::size_t bytes,
                                             bool huge_pages = false,
                                             bool* got_huge_pages = nullptr);
  // Memory that another process made, unmapped. INVALID_ARGUMENT unless `fd` is a dma-buf, or a
  // memfd that can no longer shrink, of `min_bytes` at least.
  static absl::StatusOr<SharedMemory> Take(UniqueFd fd, std::uint64_t min_bytes);
  // Fills `mapping`.
  absl::Status Map(bool writable);
};

// Seals the size of a memfd (no shrinking, no growing): a mapping of it can never fault past the
// end.
absl::Status SealSize(int fd);
// Seals the size and the seals themselves. The contents stay writable: udmabuf takes no memfd that
// is sealed against writing.
absl::Status SealForGood(int fd);
// OK when `fd` is a memfd that can no longer shrink; what a receiver checks before it maps.
absl::Status CheckSealedSize(int fd, std::size_t min_bytes);

std::size_t PageSize();

}  // namespace tandem
