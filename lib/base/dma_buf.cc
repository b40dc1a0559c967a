#include "lib/base/dma_buf.h"

#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

constexpr std::uint64_t kDefaultLimitMib = 64;

absl::StatusOr<UniqueFd> OpenNode(const char* path) {
  UniqueFd node(::open(path, O_RDWR | O_CLOEXEC));
  if (node.valid()) return node;
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
    return absl::UnimplementedError(absl::StrCat(path, " is not there"));
  return absl::ErrnoToStatus(errno, path);
}

// A dma-buf that can be mapped, as the kernel made it.
absl::StatusOr<SharedMemory> Mapped(UniqueFd fd, std::uint64_t bytes) {
  TANDEM_ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Take(std::move(fd), bytes));
  if (memory.kind != MemoryKind::kDmaBuf)
    return absl::InternalError("expected a dma-buf from the kernel, found another file");
  TANDEM_RETURN_IF_ERROR(memory.Map(/*writable=*/true));
  return memory;
}

absl::StatusOr<SharedMemory> FromHeap(std::uint64_t bytes) {
  TANDEM_ASSIGN_OR_RETURN(const UniqueFd heap, OpenNode(kDmaHeapNode));
  dma_heap_allocation_data request = {};
  request.len = bytes;
  request.fd_flags = O_RDWR | O_CLOEXEC;
  if (::ioctl(heap.get(), DMA_HEAP_IOCTL_ALLOC, &request) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(kDmaHeapNode, ": ", bytes, " bytes"));
  }
  return Mapped(UniqueFd(static_cast<int>(request.fd)), bytes);
}

}  // namespace

std::uint64_t UdmabufLimit() {
  std::array<char, 32> text{};
  const UniqueFd file(::open(kUdmabufLimitFile, O_RDONLY | O_CLOEXEC));
  const ssize_t got = file.valid() ? ::read(file.get(), text.data(), text.size() - 1) : -1;
  std::uint64_t mib = 0;
  if (got <= 0 || !absl::SimpleAtoi(absl::StripAsciiWhitespace(text.data()), &mib) || mib == 0)
    mib = kDefaultLimitMib;
  return mib << 20;
}

absl::StatusOr<Udmabuf> Udmabuf::Open() {
  Udmabuf udmabuf;
  TANDEM_ASSIGN_OR_RETURN(udmabuf.node_, OpenNode(kUdmabufNode));
  // Another device may stand in its place, in a container for one; udmabuf would refuse the file.
  udmabuf_create nothing = {};
  nothing.memfd = std::numeric_limits<std::uint32_t>::max();
  if (::ioctl(udmabuf.node_.get(), UDMABUF_CREATE, &nothing) < 0 && errno == ENOTTY)
    return absl::UnimplementedError(absl::StrCat(kUdmabufNode, " is another device"));
  udmabuf.max_bytes_ = UdmabufLimit();
  return udmabuf;
}

absl::StatusOr<UniqueFd> Udmabuf::Make(int memfd, std::uint64_t offset, std::uint64_t bytes) const {
  udmabuf_create request = {};
  request.memfd = static_cast<std::uint32_t>(memfd);
  request.flags = UDMABUF_FLAGS_CLOEXEC;
  request.offset = offset;
  request.size = bytes;
  UniqueFd fd(::ioctl(node_.get(), UDMABUF_CREATE, &request));
  if (fd.valid()) return fd;
  return absl::ErrnoToStatus(
      errno, absl::StrCat(kUdmabufNode, ": a dma-buf of ", bytes, " bytes (the limit is ",
                          max_bytes_, ") from offset ", offset));
}

std::uint64_t LargestDmaBuf() {
  if (OpenNode(kDmaHeapNode).ok()) return std::numeric_limits<std::uint64_t>::max();
  const absl::StatusOr<Udmabuf> udmabuf = Udmabuf::Open();
  return udmabuf.ok() ? udmabuf->max_bytes() : 0;
}

absl::StatusOr<SharedMemory> AllocateDmaBuf(const std::string& name, std::uint64_t bytes) {
  bytes = RoundUp(bytes, PageSize());
  const absl::StatusOr<Udmabuf> udmabuf = Udmabuf::Open();
  if (!udmabuf.ok() || bytes > udmabuf->max_bytes()) {
    absl::StatusOr<SharedMemory> memory = FromHeap(bytes);
    if (memory.ok()) return memory;
    return absl::UnimplementedError(absl::StrCat(
        "a dma-buf of ", bytes, " bytes: ",
        udmabuf.ok() ? absl::StrCat(kUdmabufNode, ": its limit is ", udmabuf->max_bytes())
                     : std::string(udmabuf.status().message()),
        "; ", std::string(memory.status().message())));
  }
  TANDEM_ASSIGN_OR_RETURN(const SharedMemory pages, SharedMemory::Create(name, bytes));
  TANDEM_RETURN_IF_ERROR(SealSize(pages.fd.get()));
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, udmabuf->Make(pages.fd.get(), 0, bytes));
  return Mapped(std::move(fd), bytes);
}

}  // namespace tandem
