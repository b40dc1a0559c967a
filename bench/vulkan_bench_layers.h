#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gpu-worker/stage/tuning.h"
#include "lib/model/tuning_mode.h"
#include "lib/weights/format.h"

namespace tandem {

struct LayerBench {
  std::string device;
  WeightFormat format = WeightFormat::kInt4;
  bool small = false;              // a small shape
  bool dispatches = false;         // prints what each dispatch of a layer takes, too
  std::int32_t most_tokens = 512;  // of a step
  ChainingMode chaining = ChainingMode::kOff;
  // Each tunes a device of its own for the same weights; at least one.
  std::vector<std::function<void(Tuning&)>> variants;
};

// Times whole layers (attention and FFN) of the 27B model's shape through the device interface,
// with random weights: decode steps of several sequences at a context of 512, and prefill. Prints a
// table.
absl::Status BenchLayers(const LayerBench& bench);

}  // namespace tandem
