#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "lib/base/fd.h"
#include "lib/base/shared_memory.h"

namespace tandem {

// Makes dma-bufs of ordinary memory, for drivers that import nothing else: /dev/udmabuf over pages
// of a memfd, and /dev/dma_heap/system. Any thread.

inline constexpr char kUdmabufNode[] = "/dev/udmabuf";
inline constexpr char kUdmabufLimitFile[] = "/sys/module/udmabuf/parameters/size_limit_mb";
inline constexpr char kDmaHeapNode[] = "/dev/dma_heap/system";

// The largest dma-buf that udmabuf makes, in bytes: its module parameter, or the module's default
// where that cannot be read.
std::uint64_t UdmabufLimit();

class Udmabuf {
 public:
  // UNIMPLEMENTED where the node is not there or is no udmabuf, PERMISSION_DENIED where it is not
  // ours.
  static absl::StatusOr<Udmabuf> Open();

  std::uint64_t max_bytes() const { return max_bytes_; }
  // A dma-buf of `bytes` of the memfd's pages from `offset` on, both multiples of the page size.
  // The memfd is sealed against shrinking and not against writing.
  absl::StatusOr<UniqueFd> Make(int memfd, std::uint64_t offset, std::uint64_t bytes) const;

 private:
  UniqueFd node_;
  std::uint64_t max_bytes_ = 0;
};

// The largest dma-buf that AllocateDmaBuf can make here; 0: none.
std::uint64_t LargestDmaBuf();
// Zeroed memory in a dma-buf, mapped: by udmabuf, else from the heap. `name` shows in /proc.
// UNIMPLEMENTED where the system can make none of this size.
absl::StatusOr<SharedMemory> AllocateDmaBuf(const std::string& name, std::uint64_t bytes);

}  // namespace tandem
