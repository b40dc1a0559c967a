#pragma once

#include <cstdint>
#include <limits>

namespace tandem {

// What a device can do with shared memory of one kind: the largest piece in bytes, 0 for not at
// all.
struct MemoryAbility {
  static constexpr std::uint64_t kAny = std::numeric_limits<std::uint64_t>::max();
  // It computes in memory that another process made.
  std::uint64_t import_bytes = 0;
  // It makes memory, or takes some that the system makes for it, and another process imports that.
  std::uint64_t export_bytes = 0;
  bool operator==(const MemoryAbility&) const = default;
};

// What a device declares of itself, found by trying where a driver's word is not enough. Plain
// data: workers describe it, the gateway decides by it.
struct MemoryDeclaration {
  MemoryAbility dma_buf;
  // Pages of a sealed memfd, by their address in this process. Whoever can import them can export
  // them: a memfd needs no device.
  MemoryAbility host_pointer;
  // It computes only in memory that it made (an NPU): it owns every edge it has.
  bool owns_edges = false;
  // The processor reads and writes what the device exports: enough for an inline edge.
  bool host_view = false;
  bool operator==(const MemoryDeclaration&) const = default;
};

}  // namespace tandem
