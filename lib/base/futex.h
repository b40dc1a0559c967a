#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace tandem {

// Futexes that work across processes (the word lies in shared memory; no FUTEX_PRIVATE).
enum class FutexResult { kWoken, kValueDiffers, kTimedOut, kInterrupted };

// Sleeps while *word == expected, at most `timeout`. Spurious returns happen: the caller checks its
// condition again.
FutexResult FutexWait(const std::atomic<std::uint32_t>* word, std::uint32_t expected,
                      absl::Duration timeout);
void FutexWakeAll(const std::atomic<std::uint32_t>* word);

}  // namespace tandem
