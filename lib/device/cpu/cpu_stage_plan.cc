#include "lib/device/cpu/cpu_stage_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

class Resolver {
 public:
  Resolver(const StageSpec& spec, const StageBindings& bindings, ActivationType activations)
      : spec_(spec), bindings_(bindings), activations_(activations) {}

  absl::StatusOr<TensorView> Find(TensorId id) const {
    const std::string region = RegionName(PartOf(id.kind), id.layer);
    for (const auto& weights : bindings_.weights) {
      if (weights->manifest().name != region) continue;
      const auto* ours = dynamic_cast<const CpuWeights*>(weights.get());
      if (ours == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat("stage '", StageSpecName(spec_),
                                                       "': region '", region,
                                                       "' was imported by another device"));
      }
      return ours->region().Find(id);
    }
    return absl::InvalidArgumentError(
        absl::StrCat("stage '", StageSpecName(spec_), "': no region '", region, "' is bound"));
  }

  absl::Status Vector(TensorKind kind, std::int32_t layer, const float** out) const {
    TANDEM_ASSIGN_OR_RETURN(const TensorView view, Find({kind, layer}));
    if (view.format != WeightFormat::kF32) return BadFormat({kind, layer}, view.format, "f32");
    *out = reinterpret_cast<const float*>(view.values.data());
    return absl::OkStatus();
  }

  // `multiplied`: it enters a product with activations, beyond a look-up of rows.
  absl::Status Matrix(TensorKind kind, std::int32_t layer, bool multiplied, MatrixView* out) const {
    TANDEM_ASSIGN_OR_RETURN(const TensorView view, Find({kind, layer}));
    const bool quantized = view.format == WeightFormat::kInt8 || view.format == WeightFormat::kInt4;
    if (multiplied && activations_ == ActivationType::kInt8 && !quantized) {
      return BadFormat({kind, layer}, view.format, "int8 or int4 (activations are int8)");
    }
    *out = ViewOf(view);
    return absl::OkStatus();
  }

 private:
  absl::Status BadFormat(TensorId id, WeightFormat found, absl::string_view expected) const {
    return absl::UnimplementedError(absl::StrCat(
        "stage '", StageSpecName(spec_), "' on the CPU device: tensor '", TensorName(id),
        "': expected ", expected, ", found ", std::string(WeightFormatName(found))));
  }

  const StageSpec& spec_;
  const StageBindings& bindings_;
  ActivationType activations_;
};

absl::Status ResolveAttention(const Resolver& resolver, const ModelConfig& config,
                              std::int32_t layer, const CpuKvCache& cache, CpuStagePlan* plan) {
  CpuAttentionHalf half;
  half.layer = layer;
  half.global = config.layer_is_global[static_cast<std::size_t>(layer)];
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kAttentionNorm, layer, &half.norm));
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kQueryNorm, layer, &half.query_norm));
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kKeyNorm, layer, &half.key_norm));
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kPostAttentionNorm, layer, &half.post_norm));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kQuery, layer, true, &half.query));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kKey, layer, true, &half.key));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kValue, layer, true, &half.value));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kAttentionOutput, layer, true, &half.output));
  half.cache = cache.layer(layer);
  plan->attention.push_back(half);
  return absl::OkStatus();
}

absl::Status ResolveFfn(const Resolver& resolver, std::int32_t layer, CpuStagePlan* plan) {
  CpuFfnHalf half;
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kFfnNorm, layer, &half.norm));
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kPostFfnNorm, layer, &half.post_norm));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kFfnGate, layer, true, &half.gate));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kFfnUp, layer, true, &half.up));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kFfnDown, layer, true, &half.down));
  plan->ffn.push_back(half);
  return absl::OkStatus();
}

// Rotary embedding as transformers computes it in float32: 1 / theta^(2 i / head_dim), divided by
// the scaling factor.
std::vector<float> Frequencies(std::int32_t head_dim, float theta, float factor) {
  std::vector<float> out(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] =
        1.0f / std::pow(theta, static_cast<float>(2 * i) / static_cast<float>(head_dim)) / factor;
  }
  return out;
}

void AddRope(const ModelConfig& config, CpuStagePlan* plan) {
  for (const CpuAttentionHalf& half : plan->attention) {
    if (half.global && plan->global_frequencies.empty()) {
      plan->global_frequencies =
          Frequencies(config.head_dim, config.rope_theta_global, config.rope_factor_global);
    }
    if (!half.global && plan->local_frequencies.empty()) {
      plan->local_frequencies = Frequencies(config.head_dim, config.rope_theta_local, 1.0f);
    }
  }
}

CpuScratchSizes SizesOf(const ModelConfig& config, const StageSpec& spec,
                        const CompileOptions& options, const CpuStagePlan& plan) {
  CpuScratchSizes sizes;
  sizes.tokens = std::max(options.limits.max_tokens, options.limits.max_logit_rows);
  sizes.hidden = config.hidden_size;
  std::int64_t widest = spec.head ? config.hidden_size : 0;
  if (!plan.attention.empty()) {
    sizes.queries = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
    sizes.keys = static_cast<std::int64_t>(config.num_kv_heads) * config.head_dim;
    sizes.head_dim = config.head_dim;
    widest = std::max({widest, sizes.hidden, sizes.queries});
  }
  if (!plan.ffn.empty()) {
    sizes.ffn = config.ffn_size;
    widest = std::max({widest, sizes.hidden, sizes.ffn});
  }
  (options.activations == ActivationType::kInt8 ? sizes.quantized : sizes.tile) = widest;
  return sizes;
}

}  // namespace

absl::StatusOr<CpuStagePlan> MakeCpuStagePlan(const ModelConfig& config, const StageSpec& spec,
                                              const StageBindings& bindings,
                                              const CompileOptions& options) {
  CpuStagePlan plan;
  const Resolver resolver(spec, bindings, options.activations);
  if (spec.HasAttention() && config.head_dim % 16 != 0) {
    return absl::UnimplementedError(
        absl::StrCat("stage '", StageSpecName(spec),
                     "' on the CPU device: expected a head_dim that is a multiple of 16, found ",
                     config.head_dim));
  }
  const auto* cache = dynamic_cast<const CpuKvCache*>(bindings.kv_cache);
  if (spec.HasAttention() && cache == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage '", StageSpecName(spec), "': the KV cache was made by another device"));
  }
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    TANDEM_RETURN_IF_ERROR(half % 2 == 0
                               ? ResolveAttention(resolver, config, half / 2, *cache, &plan)
                               : ResolveFfn(resolver, half / 2, &plan));
  }
  if (spec.embed || spec.head) {
    TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kEmbedding, -1, spec.head, &plan.embedding));
  }
  if (spec.head)
    TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kFinalNorm, -1, &plan.final_norm));
  // Gemma3TextScaledWordEmbedding rounds the scale to the type it computes in: float32 here.
  plan.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)));
  plan.query_scale = 1.0f / std::sqrt(config.query_pre_attn_scalar);
  AddRope(config, &plan);
  plan.scratch = SizesOf(config, spec, options, plan);
  return plan;
}

}  // namespace tandem
