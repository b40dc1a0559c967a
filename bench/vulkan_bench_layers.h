#pragma once

#include "absl/status/status.h"
#include "bench/vulkan_bench_rig.h"

namespace tandem {

// Times whole layers (attention and FFN) of the 27B model's shape through the device interface,
// with random weights: decode steps of several sequences at a context of 512, and prefill. Prints a
// table.
absl::Status BenchLayers(const LayerBench& bench);

}  // namespace tandem
