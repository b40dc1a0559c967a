#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/tuning.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "lib/device/program.h"
#include "lib/model/config.h"

namespace tandem {

struct TunerOptions {
  // After so long it goes on with what it has found.
  absl::Duration most = absl::Seconds(30);
  // Called with each value that was measured; may be empty.
  std::function<void(const std::string& field, std::uint32_t value, double seconds)> on_measured;
};

// Measures the fields of tuning_profile.h on one layer of the model, one after another, each with
// the best values of those before: by the device's own clock, as whole decode and prompt steps of
// that layer, on memory of its own beside the weights. `weights` hold both halves of a layer.
// Returns the row with the best values; a value counts as better from 2 % on. UNIMPLEMENTED where
// the device has no clock, NOT_FOUND where no layer is whole.
absl::StatusOr<Tuning> Tune(const DeviceContext& context, const ModelConfig& config,
                            const std::vector<std::shared_ptr<const Weights>>& weights,
                            const TunerOptions& options);

}  // namespace tandem
