#include "tests/unit/lib/worker/test_hooks.h"

#include <dlfcn.h>
#include <time.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
thread_local std::uint64_t allocations = 0;
std::atomic<std::int64_t> jump_seconds{0};
}  // namespace

void* operator new(std::size_t size) {
  ++allocations;
  void* p = std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) std::abort();
  return p;
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

// Stands before the C library's.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  using Function = int (*)(clockid_t, timespec*);
  static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "clock_gettime"));
  const int result = real(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += jump_seconds.load();
  return result;
}

namespace tandem {

std::uint64_t ThreadAllocations() { return allocations; }
void SetWallClockJump(std::int64_t seconds) { jump_seconds = seconds; }

}  // namespace tandem
