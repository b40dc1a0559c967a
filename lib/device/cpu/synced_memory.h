#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace tandem {

// Memory that a driver shares between the processor and devices, mapped: the others see what was
// flushed, the processor what was fetched. One thread at a time.
class SyncedMemory {
 public:
  virtual ~SyncedMemory() = default;
  virtual std::span<std::byte> bytes() const = 0;
  // Processor to devices.
  virtual absl::Status Flush(std::uint64_t offset, std::uint64_t size) = 0;
  // Devices to processor.
  virtual absl::Status Fetch(std::uint64_t offset, std::uint64_t size) = 0;
};

}  // namespace tandem
