#include "lib/weights/random_region.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/weights/make_region.h"

namespace tandem {

absl::StatusOr<std::shared_ptr<const Region>> MakeRandomRegion(const ModelConfig& config,
                                                               WeightPart part, std::int32_t layer,
                                                               WeightFormat matrix_format) {
  const std::vector<TensorId> tensors = TensorsOf(config, part, layer);
  std::vector<WeightFormat> formats;
  for (const TensorId id : tensors) {
    formats.push_back(IsMatrix(id.kind) ? matrix_format : WeightFormat::kF32);
  }
  TANDEM_ASSIGN_OR_RETURN(RegionManifest manifest,
                          LayOutRegion(RegionName(part, layer), config, tensors, formats));
  TANDEM_ASSIGN_OR_RETURN(RegionBuilder builder, RegionBuilder::Create(std::move(manifest), false));
  std::mt19937 random(static_cast<std::uint32_t>(layer + 2));
  std::vector<std::uint16_t> small_bf16(1 << 19);
  for (std::uint16_t& value : small_bf16) {
    value = FloatToBf16(std::uniform_real_distribution<float>(-0.02f, 0.02f)(random));
  }
  const auto repeat = [&](std::span<std::byte> to) {
    for (std::size_t at = 0; at < to.size(); at += small_bf16.size() * 2) {
      std::memcpy(to.data() + at, small_bf16.data(),
                  std::min(small_bf16.size() * 2, to.size() - at));
    }
  };
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (formats[i] == WeightFormat::kF32) {
      auto* const values = reinterpret_cast<float*>(builder.values(i).data());
      std::fill_n(values, builder.values(i).size() / sizeof(float), 1.0f);
      continue;
    }
    repeat(builder.values(i));
    auto* const scales = reinterpret_cast<std::uint16_t*>(builder.scales(i).data());
    std::fill_n(scales, builder.scales(i).size() / 2, FloatToHalf(0.001f));
  }
  TANDEM_ASSIGN_OR_RETURN(SealedRegion sealed, std::move(builder).Finish());
  return Region::Open(std::move(sealed.fd), std::move(sealed.manifest), config, false);
}

}  // namespace tandem
