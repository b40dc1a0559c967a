#include "lib/base/huge_pages.h"

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>

#include "lib/base/numeric.h"

namespace tandem {

std::uint64_t MakeHugePages(std::span<std::byte> memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::size_t before = RoundUp(address, kHugePageBytes) - address;
  if (before >= memory.size()) return 0;
  std::byte* const first = memory.data() + before;
  const std::size_t bytes = (memory.size() - before) / kHugePageBytes * kHugePageBytes;
  if (bytes == 0) return 0;
  // A piece with no page at all is refused.
  for (std::size_t at = 0; at < bytes; at += kHugePageBytes)
    static_cast<void>(*static_cast<volatile std::byte*>(first + at));
  int result = -1;
  // EAGAIN: somebody else had hold of a page just then.
  for (int attempt = 0; attempt < 3 && result != 0; ++attempt) {
    result = ::madvise(first, bytes, MADV_COLLAPSE);
    if (result != 0 && errno != EAGAIN) break;
  }
  return result == 0 ? bytes : 0;
}

}  // namespace tandem
