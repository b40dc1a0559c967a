#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/device/conformance/conformance.h"
#include "lib/device/conformance/model_runner.h"
#include "lib/device/device.h"
#include "lib/device/reference/reference.h"
#include "lib/model/config.h"

namespace tandem {

// What the files of the suite share. Internal to it.

struct ConformanceCase {
  std::string name;
  // Reports through GoogleTest.
  std::function<void(const ConformanceTarget& target, Device* device)> run;
};
std::vector<ConformanceCase> ReferenceCases(const ConformanceTarget& target);
std::vector<ConformanceCase> BatchCases(const ConformanceTarget& target);
std::vector<ConformanceCase> ResidualCases(const ConformanceTarget& target);
std::vector<ConformanceCase> CutCases(const ConformanceTarget& target);
std::vector<ConformanceCase> ContextCases();
std::vector<ConformanceCase> KvCases();
std::vector<ConformanceCase> ContractCases();

// Small shapes that differ in what devices get wrong.
struct ConformanceShape {
  std::string name;
  ModelConfig config;
};
std::vector<ConformanceShape> ConformanceShapes();
// Two layers, local and global, that most cases take.
ModelConfig ConformanceConfig();

// A random model and its reference.
struct ConformanceModel {
  ModelConfig config;
  std::vector<std::shared_ptr<const Region>> regions;
  std::shared_ptr<const ReferenceModel> reference;
};
absl::StatusOr<ConformanceModel> MakeConformanceModel(const ModelConfig& config,
                                                      WeightFormat format);

// `count` vocabulary ids, the same for the same seed.
std::vector<std::int32_t> RandomTokens(const ModelConfig& config, std::size_t count,
                                       std::uint32_t seed);

// Differences as ConformanceTolerances defines them. Infinite when the sizes differ or a value is
// not finite.
struct Difference {
  double largest = 0;
  // Root mean square.
  double mean = 0;
};
Difference Compare(std::span<const float> expected, std::span<const float> found);

// What cases run with that leave it to the device.
ActivationType ActivationsOf(const ConformanceTarget& target);
double ToleranceOf(const ConformanceTolerances& tolerances, WeightFormat format);
std::string VariantName(WeightFormat format, ActivationType activations, KvType kv_type);

}  // namespace tandem
