#pragma once

#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace tandem::npu {

// The exception that is being handled, as a status: `doing: what it says`. XRT throws; nothing that
// it throws leaves this folder.
//   UNAVAILABLE         the device or its context is gone: the process should exit
//   RESOURCE_EXHAUSTED  no memory, no context
//   INVALID_ARGUMENT    the driver refuses what was asked
absl::Status StatusOfException(std::string_view doing);

// Calls `f`, which returns a status or a StatusOr.
template <typename F>
auto Guarded(std::string_view doing, F&& f) -> decltype(f()) {
  try {
    return std::forward<F>(f)();
  } catch (...) {
    return StatusOfException(doing);
  }
}

}  // namespace tandem::npu
