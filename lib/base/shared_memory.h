#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

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
  // is shorter than `bytes`.
  static absl::StatusOr<Mapping> Map(int fd, std::size_t bytes, bool writable);

  std::byte* data() const { return data_; }  // page-aligned; null when empty
  std::size_t size() const {
    return size_;
  }  // bytes asked for; the mapping reaches to the end of the last page

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Anonymous shared memory: a memfd, its mapping and its identity. The name shows in /proc only.
struct SharedMemory {
  UniqueFd fd;
  Mapping mapping;

  // Creates `bytes` (rounded up to whole pages) of zeroed memory. With `huge_pages`, 2 MiB pages
  // are asked for first and ordinary ones taken when there are none (*got_huge_pages says which).
  static absl::StatusOr<SharedMemory> Create(const std::string& name, std::size_t bytes,
                                             bool huge_pages = false,
                                             bool* got_huge_pages = nullptr);
};

// Seals the size of a memfd (no shrinking, no growing): a mapping of it can never fault past the
// end.
absl::Status SealSize(int fd);
// Seals size and contents, for ever read-only. No writable mapping may be left (the writer unmaps
// first).
absl::Status SealContents(int fd);
// OK when `fd` is a memfd that can no longer shrink; what a receiver checks before it maps.
absl::Status CheckSealedSize(int fd, std::size_t min_bytes);

// Device and inode: two descriptors with equal identity are the same pages.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};
absl::StatusOr<FileIdentity> IdentityOf(int fd);

std::size_t PageSize();

}  // namespace tandem
