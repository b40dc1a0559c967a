#pragma once

#include <cstdint>

namespace tandem {

// A program that links test_hooks.cc has its own operator new and clock_gettime.

// Allocations of this thread so far.
std::uint64_t ThreadAllocations();
// What the wall clock (CLOCK_REALTIME) is ahead from now on, as after a suspended machine's sleep.
void SetWallClockJump(std::int64_t seconds);

}  // namespace tandem
