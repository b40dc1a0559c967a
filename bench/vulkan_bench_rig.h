#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu-worker/stage/dispatch_timer.h"
#include "gpu-worker/stage/tuning.h"
#include "lib/device/device.h"
#include "lib/model/config.h"
#include "lib/model/tuning_mode.h"
#include "lib/weights/format.h"
#include "lib/weights/region.h"

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

inline constexpr std::int32_t kBenchContext = 512;
inline constexpr std::int32_t kBenchLongContext = 8192;  // of one sequence
inline constexpr std::int32_t kBenchSequences = 32;
// Of a sequence.
inline constexpr std::int32_t kBenchBlocks = kBenchContext / kKvBlockTokens + 1;

// Layers of the 27B model's shape, with a vocabulary of that size.
ModelConfig BenchConfig(bool small, std::int32_t vocabulary);

using BenchRegions = std::vector<std::shared_ptr<const Region>>;
absl::StatusOr<BenchRegions> MakeBenchRegions(const ModelConfig& config, WeightFormat format);

// The layers compiled as one stage that embeds; with `head` the whole model.
struct BenchRig {
  ModelConfig config;
  std::unique_ptr<Device> device;
  std::unique_ptr<KvCache> cache;
  // Without a head.
  std::unique_ptr<ResidualBuffer> output;
  // Of the device, so it goes before it; null where nothing is timed.
  std::unique_ptr<DispatchTimer> timer;
  std::unique_ptr<Program> program;
  std::uint64_t layer_bytes = 0;
};
// `rig` has its timer, if it is to have one.
absl::Status MakeBenchRig(const LayerBench& bench, const ModelConfig& config,
                          const BenchRegions& regions, const std::function<void(Tuning&)>& tune,
                          bool head, BenchRig* rig);

}  // namespace tandem
