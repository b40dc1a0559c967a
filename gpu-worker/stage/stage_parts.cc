#include "gpu-worker/stage/stage_parts.h"

#include <utility>

#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/stage/vulkan_residual.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {

absl::StatusOr<StageParts> StageParts::Create(const DeviceContext& context,
                                              const ModelConfig& config, const ProgramSpec& program,
                                              const ProgramStage& stage,
                                              const ProgramMemory& memory) {
  StageParts parts(context, config, program, stage, memory);
  const std::pair<ResidualBuffer*, ResidualRef*> pairs[] = {{stage.input, &parts.input_},
                                                            {stage.output, &parts.output_}};
  for (const auto& [buffer, ref] : pairs) {
    if (buffer == nullptr) continue;
    const auto* residual = dynamic_cast<const VulkanResidual*>(buffer);
    if (residual == nullptr) {
      return absl::InvalidArgumentError("a residual buffer was not made by this Vulkan device");
    }
    *ref = {residual->buffer().slice(),
            ref == &parts.input_ ? kernels::kBaseInput : kernels::kBaseOutput};
  }
  return parts;
}

absl::StatusOr<const DeviceTensor*> StageParts::Find(TensorId id) const {
  const std::string region = RegionName(PartOf(id.kind), id.layer);
  for (const auto& bound : program_.weights) {
    if (bound->manifest().name != region) continue;
    const auto* weights = dynamic_cast<const VulkanWeights*>(bound.get());
    if (weights == nullptr) {
      return absl::InvalidArgumentError(
          Cat("region '", region, "' was not imported by this Vulkan device"));
    }
    return weights->Find(id);
  }
  return absl::NotFoundError(Cat("no region '", region, "' is bound"));
}

absl::StatusOr<const VulkanKvCache*> StageParts::Cache() const {
  const auto* cache = dynamic_cast<const VulkanKvCache*>(program_.kv_cache);
  if (cache == nullptr) {
    return absl::InvalidArgumentError("the KV cache was not made by this Vulkan device");
  }
  return cache;
}

ResidualRef StageParts::Before(std::int32_t half) const {
  if (half == stage_.spec.first_half && !stage_.spec.embed) return input_;
  return {memory_.residual.slice(), kernels::kBaseZero};
}

ResidualRef StageParts::After(std::int32_t half) const {
  if (half == stage_.spec.last_half && !stage_.spec.head) return output_;
  return {memory_.residual.slice(), kernels::kBaseZero};
}

TensorId StageParts::NormOf(std::int32_t half) {
  return {half % 2 == 0 ? TensorKind::kAttentionNorm : TensorKind::kFfnNorm, half / 2};
}

TensorId StageParts::PostNormOf(std::int32_t half) {
  return {half % 2 == 0 ? TensorKind::kPostAttentionNorm : TensorKind::kPostFfnNorm, half / 2};
}

absl::StatusOr<Product> StageParts::MakeProduct(std::string name, const std::vector<TensorId>& ids,
                                                ProductOptions options) const {
  std::vector<const DeviceTensor*> matrices;
  for (const TensorId id : ids) {
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* matrix, Find(id));
    matrices.push_back(matrix);
  }
  options.activations = program_.activations;
  return Product::Create(context_, std::move(name), std::move(matrices), options);
}

absl::StatusOr<Product> StageParts::InputProduct(std::int32_t half, bool chained) const {
  const std::int32_t layer = half / 2;
  if (half % 2 == 0) {
    return MakeProduct(
        Cat("queries, keys and values of layer ", layer),
        {{TensorKind::kQuery, layer}, {TensorKind::kKey, layer}, {TensorKind::kValue, layer}},
        {.parts = true, .chained = chained});
  }
  return MakeProduct(Cat("gate and up of layer ", layer),
                     {{TensorKind::kFfnGate, layer}, {TensorKind::kFfnUp, layer}},
                     {.chained = chained});
}

absl::StatusOr<Product> StageParts::OutputProduct(std::int32_t half, bool chained) const {
  if (half % 2 == 0) {
    const TensorId id{TensorKind::kAttentionOutput, half / 2};
    // Eight lanes round a group of 32 columns, all of one head.
    return MakeProduct(
        TensorName(id), {id},
        {.parts = true, .no_q8 = config_.head_dim % kGroupSize != 0, .chained = chained});
  }
  const TensorId id{TensorKind::kFfnDown, half / 2};
  return MakeProduct(TensorName(id), {id}, {.parts = true, .small_f16 = true, .chained = chained});
}

absl::StatusOr<Product> StageParts::HeadProduct() const {
  return MakeProduct("head", {{TensorKind::kEmbedding, -1}}, {});
}

}  // namespace tandem
