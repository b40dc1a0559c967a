#include "lib/device/cpu/cpu_stage.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

class Resolver {
 public:
  Resolver(const StageSpec& spec, const ProgramSpec& program) : spec_(spec), program_(program) {}

  absl::StatusOr<TensorView> Find(TensorId id) const {
    const std::string region = RegionName(PartOf(id.kind), id.layer);
    for (const auto& weights : program_.weights) {
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
    if (multiplied && program_.activations == ActivationType::kInt8 && !IsQuantized(view.format)) {
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
  const ProgramSpec& program_;
};

absl::Status ResolveAttention(const Resolver& resolver, const ModelConfig& config,
                              std::int32_t layer, const CpuKvCache* cache, CpuStage* stage) {
  CpuAttentionHalf half;
  half.layer = layer;
  half.global = config.layer_is_global[static_cast<std::size_t>(layer)];
  half.projects = stage->spec.Projects(2 * layer);
  half.attends = stage->spec.Attends(2 * layer);
  half.outputs = stage->spec.Outputs(2 * layer);
  if (half.projects) {
    TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kAttentionNorm, layer, &half.norm));
    TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kQuery, layer, true, &half.query));
    TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kKey, layer, true, &half.key));
    TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kValue, layer, true, &half.value));
  }
  if (half.attends) {
    TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kQueryNorm, layer, &half.query_norm));
    TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kKeyNorm, layer, &half.key_norm));
    half.cache = cache->layer(layer);
  }
  if (half.outputs) {
    TANDEM_RETURN_IF_ERROR(
        resolver.Matrix(TensorKind::kAttentionOutput, layer, true, &half.output));
    TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kPostAttentionNorm, layer, &half.post_norm));
  }
  stage->attention.push_back(half);
  return absl::OkStatus();
}

absl::Status ResolveFfn(const Resolver& resolver, std::int32_t layer, CpuStage* stage) {
  CpuFfnHalf half;
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kFfnNorm, layer, &half.norm));
  TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kPostFfnNorm, layer, &half.post_norm));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kFfnGate, layer, true, &half.gate));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kFfnUp, layer, true, &half.up));
  TANDEM_RETURN_IF_ERROR(resolver.Matrix(TensorKind::kFfnDown, layer, true, &half.down));
  stage->ffn.push_back(half);
  return absl::OkStatus();
}

// Rotary embedding as transformers computes it in float32: 1 / theta^(2 i / head_dim), divided by
// the scaling factor.
std::vector<float> Frequencies(std::int32_t head_dim, float theta, float factor) {
  std::vector<float> out(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    out[i] = 1.0f / std::pow(theta, exponent) / factor;
  }
  return out;
}

void AddRope(const ModelConfig& config, CpuStage* stage) {
  for (const CpuAttentionHalf& half : stage->attention) {
    if (!half.attends) continue;
    if (half.global && stage->global_frequencies.empty()) {
      stage->global_frequencies =
          Frequencies(config.head_dim, config.rope_theta_global, config.rope_factor_global);
    }
    if (!half.global && stage->local_frequencies.empty()) {
      stage->local_frequencies = Frequencies(config.head_dim, config.rope_theta_local, 1.0f);
    }
  }
}

}  // namespace

CpuStepCopy::CpuStepCopy(const StepRules& rules)
    : table_size_(static_cast<std::size_t>(rules.limits.max_blocks_per_sequence)) {
  tokens_.reserve(static_cast<std::size_t>(rules.limits.max_tokens));
  logit_rows_.reserve(static_cast<std::size_t>(rules.limits.max_logit_rows));
  const std::size_t entries = static_cast<std::size_t>(rules.limits.max_sequences) * table_size_;
  if (rules.global_blocks > 0) global_.resize(entries, kNoBlock);
  if (rules.window_blocks > 0) window_.resize(entries, kNoBlock);
}

void CpuStepCopy::Assign(const Step& step) {
  tokens_.clear();
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const StepSequence& sequence = step.sequences[s];
    const std::int32_t last = sequence.first_position + sequence.num_tokens - 1;
    for (std::int32_t i = 0; i < sequence.num_tokens; ++i) {
      tokens_.push_back({step.tokens[static_cast<std::size_t>(sequence.first_token + i)],
                         sequence.first_position + i, static_cast<std::int32_t>(s), last});
    }
    // What stands behind the last position is never read.
    const auto copy = [&](std::span<const std::int32_t> from, std::vector<std::int32_t>& to) {
      if (to.empty()) return;
      std::copy_n(from.begin(), BlocksUsed(sequence),
                  to.begin() + static_cast<std::ptrdiff_t>(s * table_size_));
    };
    copy(sequence.global_blocks, global_);
    copy(sequence.window_blocks, window_);
  }
  logit_rows_.assign(step.logit_rows.begin(), step.logit_rows.end());
  hidden_states_ = step.hidden_states;
}

std::uint64_t CpuStepCopy::bytes() const {
  return tokens_.capacity() * sizeof(Token) +
         (logit_rows_.capacity() + global_.size() + window_.size()) * sizeof(std::int32_t);
}

namespace {

bool MultipliesQuantized(const CpuStage& stage) {
  const auto any = [](std::initializer_list<const MatrixView*> matrices) {
    return std::any_of(matrices.begin(), matrices.end(),
                       [](const MatrixView* w) { return IsQuantized(w->format); });
  };
  for (const CpuAttentionHalf& half : stage.attention) {
    if ((half.projects && any({&half.query, &half.key, &half.value})) ||
        (half.outputs && any({&half.output})))
      return true;
  }
  for (const CpuFfnHalf& half : stage.ffn) {
    if (any({&half.gate, &half.up, &half.down})) return true;
  }
  return stage.spec.head && any({&stage.embedding});
}

}  // namespace

absl::StatusOr<CpuStage> MakeCpuStage(const ModelConfig& config, const ProgramSpec& program,
                                      const ProgramStage& bound) {
  const StageSpec& spec = bound.spec;
  CpuStage stage;
  stage.spec = spec;
  stage.input_columns = static_cast<std::size_t>(InputColumns(config, spec));
  stage.output_columns = static_cast<std::size_t>(OutputColumns(config, spec));
  stage.activations = program.activations;
  stage.input = dynamic_cast<const CpuResidual*>(bound.input);
  stage.output = dynamic_cast<const CpuResidual*>(bound.output);
  if ((bound.input != nullptr && stage.input == nullptr) ||
      (bound.output != nullptr && stage.output == nullptr)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stage '", StageSpecName(spec), "': a residual buffer was made by another device"));
  }
  const Resolver resolver(spec, program);
  if (spec.HasAttention() && config.head_dim % 16 != 0) {
    return absl::UnimplementedError(
        absl::StrCat("stage '", StageSpecName(spec),
                     "' on the CPU device: expected a head_dim that is a multiple of 16, found ",
                     config.head_dim));
  }
  const auto* cache = dynamic_cast<const CpuKvCache*>(program.kv_cache);
  if (spec.HasAttention() && cache == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage '", StageSpecName(spec), "': the KV cache was made by another device"));
  }
  if (spec.HasAttention()) stage.kv_type = cache->spec().type;
  for (std::int32_t half = spec.first_half; half < spec.last_half; ++half) {
    TANDEM_RETURN_IF_ERROR(half % 2 == 0
                               ? ResolveAttention(resolver, config, half / 2, cache, &stage)
                               : ResolveFfn(resolver, half / 2, &stage));
  }
  if (spec.embed || spec.head) {
    TANDEM_RETURN_IF_ERROR(
        resolver.Matrix(TensorKind::kEmbedding, -1, spec.head, &stage.embedding));
  }
  if (spec.head)
    TANDEM_RETURN_IF_ERROR(resolver.Vector(TensorKind::kFinalNorm, -1, &stage.final_norm));
  // Gemma3TextScaledWordEmbedding rounds the scale to the type it computes in: float32 here.
  stage.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden_size)));
  stage.query_scale = 1.0f / std::sqrt(config.query_pre_attn_scalar);
  AddRope(config, &stage);
  if (stage.activations == ActivationType::kAuto && !MultipliesQuantized(stage)) {
    stage.activations = ActivationType::kFloat32;
  }
  return stage;
}

absl::Status PrepareProducts(const CpuStage& stage, std::int32_t max_tokens,
                             std::int32_t max_logit_rows, ProductUnit* unit,
                             std::vector<std::vector<MatrixView>>* prepared) {
  const auto prepare = [&](std::vector<MatrixView> group, std::int64_t rows) {
    // A half that is cut has some of its matrices only.
    if (group.front().values == nullptr) return absl::OkStatus();
    const absl::Status status = unit->Prepare(group, rows);
    if (status.ok()) prepared->push_back(std::move(group));
    return status;
  };
  for (const CpuAttentionHalf& half : stage.attention) {
    TANDEM_RETURN_IF_ERROR(prepare({half.query, half.key, half.value}, max_tokens));
    TANDEM_RETURN_IF_ERROR(prepare({half.output}, max_tokens));
  }
  for (const CpuFfnHalf& half : stage.ffn) {
    TANDEM_RETURN_IF_ERROR(prepare({half.gate, half.up}, max_tokens));
    TANDEM_RETURN_IF_ERROR(prepare({half.down}, max_tokens));
  }
  if (!stage.spec.head) return absl::OkStatus();
  return prepare({stage.embedding}, max_logit_rows);
}

CpuScratchSizes ScratchSizesOf(const ModelConfig& config, const ProgramSpec& program) {
  CpuScratchSizes sizes;
  sizes.tokens = std::max(program.limits.max_tokens, program.limits.max_logit_rows);
  sizes.hidden = config.hidden_size;
  std::int64_t widest = 0;
  for (const ProgramStage& stage : program.stages) {
    if (stage.spec.HasAttentionHalf()) {
      sizes.queries = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
      sizes.keys = static_cast<std::int64_t>(config.num_kv_heads) * config.head_dim;
      sizes.head_dim = config.head_dim;
      widest = std::max({widest, sizes.hidden, sizes.queries});
    }
    if (stage.spec.HasFeedForward()) {
      sizes.ffn = config.ffn_size;
      widest = std::max({widest, sizes.hidden, sizes.ffn});
    }
    if (stage.spec.head) widest = std::max(widest, sizes.hidden);
  }
  if (program.activations != ActivationType::kFloat32) sizes.quantized = widest;
  if (program.activations != ActivationType::kInt8) sizes.tile = widest;
  return sizes;
}

}  // namespace tandem
