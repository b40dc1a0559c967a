#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem {

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
// What is worth asking for at once: the kernel has all processors give up their free pages each
// time.
inline constexpr std::size_t kHugePieceBytes = 16 * kHugePageBytes;

// Turns a mapping of shared memory, or part of one, into pages of 2 MiB before it is filled
// (MADV_COLLAPSE of Linux 6.1, which makes them whatever the setting in /sys says): one page fault,
// and one entry in the tables of processor and device, in the place of 512, also for whoever maps
// the file afterwards (Mapping aligns what is large). What does not fill a whole page at a multiple
// of 2 MiB stays as it is. Keeps what is there. Any thread. Returns how many bytes are in such
// pages now; 0 where the kernel makes none.
std::uint64_t MakeHugePages(std::span<std::byte> memory);

}  // namespace tandem
