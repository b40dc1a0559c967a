#include "lib/base/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace tandem {
namespace {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t) &&
              std::atomic<std::uint32_t>::is_always_lock_free);

long Futex(const std::atomic<std::uint32_t>* word, int op, std::uint32_t value,
           const timespec* timeout) {
  return ::syscall(SYS_futex, word, op, value, timeout, nullptr, 0);
}

}  // namespace

FutexResult FutexWait(const std::atomic<std::uint32_t>* word, std::uint32_t expected,
                      absl::Duration timeout) {
  const timespec limit = absl::ToTimespec(std::max(timeout, absl::ZeroDuration()));
  if (Futex(word, FUTEX_WAIT, expected, &limit) == 0) return FutexResult::kWoken;
  switch (errno) {
    case EAGAIN:
      return FutexResult::kValueDiffers;
    case ETIMEDOUT:
      return FutexResult::kTimedOut;
    default:
      return FutexResult::kInterrupted;
  }
}

void FutexWakeAll(const std::atomic<std::uint32_t>* word) {
  Futex(word, FUTEX_WAKE, INT_MAX, nullptr);
}

}  // namespace tandem
