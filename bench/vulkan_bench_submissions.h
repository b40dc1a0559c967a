#pragma once

#include <string>

#include "absl/status/status.h"

namespace tandem {

// Times what lies between the host and the device: sending work, being woken by its end or looking
// for it, and letting work go that was sent ahead and waits for a signal of the host. Prints a
// table.
absl::Status BenchSubmissions(const std::string& device, bool small);

}  // namespace tandem
