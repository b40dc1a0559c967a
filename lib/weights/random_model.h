#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/weights/format.h"
#include "lib/weights/region.h"

namespace tandem {

// Whole models with random weights, for tests and benchmarks of every device. The weights depend on
// the seed, the tensor and the row alone, so that every format and every split of the layers starts
// from the same floats.

// Row `row` of a tensor before quantisation; norms as 1 + w. Small embeddings and a large final
// norm make the tied head depend on every layer and not on the last token alone.
void RandomRow(const ModelConfig& config, std::uint64_t seed, TensorId id, std::int64_t row,
               std::span<float> out);

struct RandomModel {
  ModelConfig config;
  std::map<std::string, std::shared_ptr<const Region>> regions;  // by RegionName, all of them
};
absl::StatusOr<RandomModel> MakeRandomModel(const ModelConfig& config, WeightFormat matrix_format,
                                            std::uint64_t seed);

}  // namespace tandem
