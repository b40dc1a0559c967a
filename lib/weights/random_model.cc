#include "lib/weights/random_model.h"

#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/model/tensors.h"
#include "lib/weights/make_region.h"

namespace tandem {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): any seed gives a good stream, and it is the same on every
// machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double Uniform() { return (static_cast<double>(Next() >> 11) + 0.5) * 0x1p-53; }  // in (0, 1)

 private:
  std::uint64_t state_;
};

// Standard normal values, two at a time (Box and Muller).
void FillNormal(Random& random, std::span<float> out, double mean, double deviation) {
  for (std::size_t i = 0; i < out.size(); i += 2) {
    const double radius = std::sqrt(-2.0 * std::log(random.Uniform()));
    const double angle = 2.0 * std::numbers::pi * random.Uniform();
    out[i] = static_cast<float>(mean + deviation * radius * std::cos(angle));
    if (i + 1 < out.size())
      out[i + 1] = static_cast<float>(mean + deviation * radius * std::sin(angle));
  }
}

}  // namespace

void RandomRow(const ModelConfig& config, std::uint64_t seed, TensorId id, std::int64_t row,
               std::span<float> out) {
  Random mix(seed);
  Random kind(mix.Next() ^ (static_cast<std::uint64_t>(id.kind) + 1));
  Random layer(kind.Next() ^ static_cast<std::uint64_t>(id.layer + 2));
  Random random(layer.Next() ^ static_cast<std::uint64_t>(row));
  if (id.kind == TensorKind::kFinalNorm) return FillNormal(random, out, 5.0, 0.5);
  if (!IsMatrix(id.kind)) return FillNormal(random, out, 1.0, 0.2);
  const double cols = static_cast<double>(ShapeOf(config, id.kind).cols);
  FillNormal(random, out, 0.0, (id.kind == TensorKind::kEmbedding ? 0.5 : 1.0) / std::sqrt(cols));
}

absl::StatusOr<RandomModel> MakeRandomModel(const ModelConfig& config, WeightFormat matrix_format,
                                            std::uint64_t seed) {
  TANDEM_RETURN_IF_ERROR(ValidateModelConfig(config));
  RandomModel model{config, {}};
  const FloatRowSource source = [&](TensorId id, std::int64_t row, std::span<float> out) {
    RandomRow(config, seed, id, row, out);
  };
  const auto add = [&](WeightPart part, std::int32_t layer) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(model.regions[RegionName(part, layer)],
                            MakeRegion(config, part, layer, matrix_format, source));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(add(WeightPart::kEmbedding, -1));
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kAttention, layer));
    TANDEM_RETURN_IF_ERROR(add(WeightPart::kFfn, layer));
  }
  return model;
}

}  // namespace tandem
