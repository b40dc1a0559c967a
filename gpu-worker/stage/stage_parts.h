#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/program_memory.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "lib/device/program.h"
#include "lib/model/tensors.h"

namespace tandem {

// What the lists of a stage (stage_graph.h) are made of: its weights, products, residuals and
// cache. What it is made from outlives it. Errors name what was not made by this device, or is not
// bound.
class StageParts {
 public:
  static absl::StatusOr<StageParts> Create(const DeviceContext& context, const ModelConfig& config,
                                           const ProgramSpec& program, const ProgramStage& stage,
                                           const ProgramMemory& memory);

  absl::StatusOr<const DeviceTensor*> Find(TensorId id) const;
  absl::StatusOr<const VulkanKvCache*> Cache() const;

  // The residual stream before half `half`, and after all halves below it.
  ResidualRef Before(std::int32_t half) const;
  ResidualRef After(std::int32_t half) const;
  // What comes from another device; the same as Before of the first half, unless that embeds.
  const ResidualRef& input() const { return input_; }
  const ResidualRef& output() const { return output_; }

  // The norm in front of a half, and the one behind it.
  static TensorId NormOf(std::int32_t half);
  static TensorId PostNormOf(std::int32_t half);

  // Of the products of a half the one that reads the normed residual, and the one that makes what
  // the half adds. `chained`: see ProductOptions.
  absl::StatusOr<Product> InputProduct(std::int32_t half, bool chained = false) const;
  absl::StatusOr<Product> OutputProduct(std::int32_t half, bool chained = false) const;
  absl::StatusOr<Product> HeadProduct() const;

 private:
  StageParts(const DeviceContext& context, const ModelConfig& config, const ProgramSpec& program,
             const ProgramStage& stage, const ProgramMemory& memory)
      : context_(context), config_(config), program_(program), stage_(stage), memory_(memory) {}
  absl::StatusOr<Product> MakeProduct(std::string name, const std::vector<TensorId>& ids,
                                      ProductOptions options) const;

  const DeviceContext& context_;
  const ModelConfig& config_;
  const ProgramSpec& program_;
  const ProgramStage& stage_;
  const ProgramMemory& memory_;
  ResidualRef input_;
  ResidualRef output_;
};

}  // namespace tandem
