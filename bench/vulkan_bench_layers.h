#pragma once

#include <string>

#include "absl/status/status.h"
#include "lib/weights/format.h"

namespace tandem {

// Times whole layers (attention and FFN) of the 27B model's shape through the device interface,
// with random weights: decode steps of several sequences at a context of 512, and prefill. Prints a
// table; `small` takes a small shape.
absl::Status BenchLayers(const std::string& device_name, WeightFormat format, bool small);

}  // namespace tandem
