#pragma once

#include <string>

#include "absl/status/status.h"

namespace tandem {

struct TuneAloneOptions {
  std::string device = "auto";   // as VulkanDeviceOptions::device
  std::string shape = "27b";     // of Gemma 3: 1b, 4b, 12b or 27b
  std::string weights = "int4";  // int4 or int8
  std::string cache_folder;      // where the profile is kept; empty: nowhere
};

// Tunes a device without a model: a layer of the shape with random weights, as values do not change
// the time. Prints what was measured and what was chosen, and keeps the profile for later starts.
absl::Status TuneAlone(const TuneAloneOptions& options);

}  // namespace tandem
