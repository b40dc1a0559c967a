#pragma once

#include "absl/status/status.h"
#include "bench/vulkan_bench_rig.h"

namespace tandem {

// Times whole decode steps of the 27B model's shape, of few layers, with embedding and head: what
// the host takes before and behind the device, and what of the device's time is spent outside of
// layers, by timestamps. Prints a table.
absl::Status BenchSteps(const LayerBench& bench);

}  // namespace tandem
