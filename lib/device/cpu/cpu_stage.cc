#include "lib/device/cpu/cpu_stage.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "lib/base/status_macros.h"
#include "lib/model/kv_layout.h"
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
                              std::int32_t layer, const CpuKvCache& cache, CpuStage* stage) {
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
    if (half.global && stage->global_frequencies.empty()) {
      stage->global_frequencies =
          Frequencies(config.head_dim, config.rope_theta_global, config.rope_factor_global);
    }
    if (!half.global && stage->local_frequencies.empty()) {
      stage->local_frequencies = Frequencies(config.head_dim, config.rope_theta_local, 1.0f);
    }
  }
}

// Runs one stage over one step: what RunCpuStage needs at hand while it does.
class StagePass {
 public:
  StagePass(const ModelConfig& config, const CpuStage& stage, const CpuStepCopy& step,
            const CpuStageRows& rows, CpuWorkspace* work)
      : config_(config),
        stage_(stage),
        step_(step),
        scratch_(work->scratch),
        products_(work->products),
        base_(rows.input),
        rows_(static_cast<std::int64_t>(step.tokens().size())),
        target_(rows.output == nullptr ? work->scratch.residual.as<float>() : rows.output),
        logits_(rows.logits),
        hidden_states_(rows.hidden_states) {}

  void Run() {
    if (stage_.spec.embed) Embed();
    if (!stage_.attention.empty()) FillRope();
    auto attention = stage_.attention.begin();
    auto ffn = stage_.ffn.begin();
    for (std::int32_t half = stage_.spec.first_half; half < stage_.spec.last_half; ++half) {
      if (products_.cancelled()) return;
      if (half % 2 == 0) {
        AttentionHalf(*attention++);
      } else {
        if (stage_.spec.head && half + 1 == stage_.spec.last_half) KeepLogitRows();
        if (rows_ > 0) FfnHalf(*ffn);
        ++ffn;
      }
    }
    if (stage_.spec.head) Head();
  }

 private:
  void Embed();
  void FillRope();
  void FillRopeOf(const std::vector<float>& frequencies, float* cosines, float* sines);
  void AttentionHalf(const CpuAttentionHalf& half);
  void StoreToken(const CpuAttentionHalf& half, std::int64_t token);
  void AttendToken(const CpuAttentionHalf& half, std::int64_t token, std::int64_t first_head,
                   std::int64_t heads);
  void FfnHalf(const CpuFfnHalf& half);
  void KeepLogitRows();
  void Norm(const float* weights);
  void AddNormed(const float* weights);
  void Head();
  std::int64_t tokens() const { return static_cast<std::int64_t>(step_.tokens().size()); }

  const ModelConfig& config_;
  const CpuStage& stage_;
  const CpuStepCopy& step_;
  CpuScratch& scratch_;
  CpuProducts& products_;
  // (rows_, hidden): the residual so far.
  const float* base_;
  // All tokens', and behind the last layer's attention only those that have logits.
  std::int64_t rows_;
  // Where this stage leaves it.
  float* target_;
  float* logits_;
  float* hidden_states_;
};

void StagePass::Embed() {
  const std::int64_t hidden = config_.hidden_size;
  products_.ForEach(CpuPart::kEmbedding, tokens(), [&](std::int64_t t, int) {
    ScaledRow(stage_.embedding, step_.tokens()[static_cast<std::size_t>(t)].id,
              stage_.embedding_scale, target_ + t * hidden);
  });
  base_ = target_;
}

// Planes of the buffer: cosines and sines of the local layers, then of the global ones; each
// (tokens, head_dim / 2).
void StagePass::FillRope() {
  const std::int64_t plane = tokens() * (config_.head_dim / 2);
  auto* rope = scratch_.rope.as<float>();
  FillRopeOf(stage_.local_frequencies, rope, rope + plane);
  FillRopeOf(stage_.global_frequencies, rope + 2 * plane, rope + 3 * plane);
}

void StagePass::FillRopeOf(const std::vector<float>& frequencies, float* cosines, float* sines) {
  if (frequencies.empty()) return;
  const auto half = static_cast<std::int64_t>(frequencies.size());
  products_.ForEach(CpuPart::kCache, tokens(), [&](std::int64_t t, int) {
    const auto position = static_cast<float>(step_.tokens()[static_cast<std::size_t>(t)].position);
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = position * frequencies[static_cast<std::size_t>(i)];
      cosines[t * half + i] = std::cos(angle);
      sines[t * half + i] = std::sin(angle);
    }
  });
}

void StagePass::Norm(const float* weights) {
  const std::int64_t hidden = config_.hidden_size;
  auto* normed = scratch_.normed.as<float>();
  products_.ForEach(CpuPart::kNorms, rows_, [&](std::int64_t t, int) {
    RmsNormRow(base_ + t * hidden, weights, hidden, config_.rms_norm_eps, normed + t * hidden);
  });
  products_.SetInput({normed, hidden, rows_}, hidden);
}

void StagePass::AddNormed(const float* weights) {
  const std::int64_t hidden = config_.hidden_size;
  const auto* projected = scratch_.projected.as<float>();
  products_.ForEach(CpuPart::kNorms, rows_, [&](std::int64_t t, int) {
    AddRmsNormRow(base_ + t * hidden, projected + t * hidden, weights, hidden, config_.rms_norm_eps,
                  target_ + t * hidden);
  });
  base_ = target_;
}

void StagePass::AttentionHalf(const CpuAttentionHalf& half) {
  Norm(half.norm);
  const CpuProducts::Output inputs[] = {{&half.query, scratch_.queries.as<float>()},
                                        {&half.key, scratch_.keys.as<float>()},
                                        {&half.value, scratch_.values.as<float>()}};
  products_.Run(inputs);
  products_.ForEach(CpuPart::kCache, tokens(), [&](std::int64_t t, int) { StoreToken(half, t); });
  // Heads that share keys go together, unless that leaves processors without work.
  const std::int64_t sharing = config_.num_heads / config_.num_kv_heads;
  const bool together = tokens() * config_.num_kv_heads >= 4 * products_.threads();
  const std::int64_t heads = together ? sharing : 1;
  const std::int64_t jobs = config_.num_heads / heads;
  products_.ForEach(CpuPart::kAttention, tokens() * jobs, [&](std::int64_t i, int) {
    AttendToken(half, i / jobs, i % jobs * heads, heads);
  });
  const std::int64_t width = config_.num_heads * static_cast<std::int64_t>(config_.head_dim);
  products_.SetInput({scratch_.attended.as<float>(), width, tokens()}, width);
  const CpuProducts::Output output[] = {{&half.output, scratch_.projected.as<float>()}};
  products_.Run(output);
  AddNormed(half.post_norm);
}

// Norms and rotates a token's queries and keys, and puts its keys and values into the cache.
void StagePass::StoreToken(const CpuAttentionHalf& half, std::int64_t token) {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t kv_heads = config_.num_kv_heads;
  const float eps = config_.rms_norm_eps;
  const std::int64_t plane = tokens() * (dim / 2);
  const float* cosines =
      scratch_.rope.as<float>() + (half.global ? 2 * plane : 0) + token * (dim / 2);
  const float* sines = cosines + plane;
  float* query = scratch_.queries.as<float>() + token * config_.num_heads * dim;
  for (std::int64_t h = 0; h < config_.num_heads; ++h, query += dim) {
    RmsNormRow(query, half.query_norm, dim, eps, query);
    RotateRow(query, cosines, sines, dim, stage_.query_scale);
  }
  const CpuStepCopy::Token& at = step_.tokens()[static_cast<std::size_t>(token)];
  const std::int64_t block = step_.blocks(at.sequence, half.global)[at.position / kKvBlockTokens];
  float* key = scratch_.keys.as<float>() + token * kv_heads * dim;
  const float* value = scratch_.values.as<float>() + token * kv_heads * dim;
  for (std::int64_t h = 0; h < kv_heads; ++h, key += dim, value += dim) {
    RmsNormRow(key, half.key_norm, dim, eps, key);
    RotateRow(key, cosines, sines, dim, 1.0f);
    const std::int64_t head = (block * kv_heads + h) * KvHeadBytes(dim, stage_.kv_type);
    StoreKv(key, dim, stage_.kv_type, half.cache.keys + head, at.position % kKvBlockTokens);
    StoreKv(value, dim, stage_.kv_type, half.cache.values + head, at.position % kKvBlockTokens);
  }
}

void StagePass::AttendToken(const CpuAttentionHalf& half, std::int64_t token,
                            std::int64_t first_head, std::int64_t heads) {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t kv_head = first_head / (config_.num_heads / config_.num_kv_heads);
  const std::int64_t head_bytes = KvHeadBytes(dim, stage_.kv_type);
  const CpuStepCopy::Token& at = step_.tokens()[static_cast<std::size_t>(token)];
  AttendJob job;
  job.heads = heads;
  job.query = scratch_.queries.as<float>() + (token * config_.num_heads + first_head) * dim;
  job.out = scratch_.attended.as<float>() + (token * config_.num_heads + first_head) * dim;
  job.keys = half.cache.keys + kv_head * head_bytes;
  job.values = half.cache.values + kv_head * head_bytes;
  job.block_bytes = config_.num_kv_heads * head_bytes;
  job.blocks = step_.blocks(at.sequence, half.global);
  job.first_position = half.global ? 0 : std::max(0, at.position - config_.sliding_window + 1);
  job.last_position = LastSeen(config_, at, half.global);
  job.head_dim = dim;
  job.type = stage_.kv_type;
  Attend(job);
}

void StagePass::FfnHalf(const CpuFfnHalf& half) {
  Norm(half.norm);
  products_.RunGated({&half.gate, scratch_.gate.as<float>()}, {&half.up, scratch_.up.as<float>()});
  const CpuProducts::Output output[] = {{&half.down, scratch_.projected.as<float>()}};
  products_.Run(output);
  AddNormed(half.post_norm);
}

// What the last layer makes of other tokens nobody reads, unless hidden states are asked for.
void StagePass::KeepLogitRows() {
  if (step_.hidden_states()) return;
  const std::int64_t hidden = config_.hidden_size;
  rows_ = static_cast<std::int64_t>(step_.logit_rows().size());
  // Ascending: no row is written before it was read.
  for (std::int64_t i = 0; i < rows_; ++i) {
    const float* row = base_ + step_.logit_rows()[static_cast<std::size_t>(i)] * hidden;
    std::memmove(target_ + i * hidden, row, static_cast<std::size_t>(hidden) * sizeof(float));
  }
  base_ = target_;
}

void StagePass::Head() {
  const std::int64_t hidden = config_.hidden_size;
  if (step_.hidden_states()) {
    products_.ForEach(CpuPart::kNorms, tokens(), [&](std::int64_t t, int) {
      RmsNormRow(base_ + t * hidden, stage_.final_norm, hidden, config_.rms_norm_eps,
                 hidden_states_ + t * hidden);
    });
  }
  const auto rows = static_cast<std::int64_t>(step_.logit_rows().size());
  auto* normed = scratch_.normed.as<float>();
  products_.ForEach(CpuPart::kNorms, rows, [&](std::int64_t i, int) {
    // A stage that is the head alone has all rows yet.
    const std::int64_t at =
        rows_ == rows ? i : std::int64_t{step_.logit_rows()[static_cast<std::size_t>(i)]};
    RmsNormRow(base_ + at * hidden, stage_.final_norm, hidden, config_.rms_norm_eps,
               normed + i * hidden);
  });
  if (rows == 0) return;
  products_.SetInput({normed, hidden, rows}, hidden);
  const CpuProducts::Output output[] = {{&stage_.embedding, logits_}};
  products_.Run(output);
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
    if (any({&half.query, &half.key, &half.value, &half.output})) return true;
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
                               ? ResolveAttention(resolver, config, half / 2, *cache, &stage)
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

absl::Status PrepareProducts(const CpuStage& stage, const StepLimits& limits, ProductUnit* unit,
                             std::vector<MatrixView>* prepared) {
  const auto prepare = [&](const MatrixView& w, std::int64_t rows) {
    const absl::Status status = unit->Prepare(w, rows);
    if (status.ok()) prepared->push_back(w);
    return status;
  };
  for (const CpuAttentionHalf& half : stage.attention) {
    for (const MatrixView* w : {&half.query, &half.key, &half.value, &half.output}) {
      TANDEM_RETURN_IF_ERROR(prepare(*w, limits.max_tokens));
    }
  }
  for (const CpuFfnHalf& half : stage.ffn) {
    for (const MatrixView* w : {&half.gate, &half.up, &half.down}) {
      TANDEM_RETURN_IF_ERROR(prepare(*w, limits.max_tokens));
    }
  }
  if (!stage.spec.head) return absl::OkStatus();
  return prepare(stage.embedding, limits.max_logit_rows);
}

CpuScratchSizes ScratchSizesOf(const ModelConfig& config, const ProgramSpec& program) {
  CpuScratchSizes sizes;
  sizes.tokens = std::max(program.limits.max_tokens, program.limits.max_logit_rows);
  sizes.hidden = config.hidden_size;
  std::int64_t widest = 0;
  for (const ProgramStage& stage : program.stages) {
    if (stage.spec.HasAttention()) {
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

void RunCpuStage(const ModelConfig& config, const CpuStage& stage, const CpuStepCopy& step,
                 const CpuStageRows& rows, CpuWorkspace* work) {
  StagePass(config, stage, step, rows, work).Run();
}

}  // namespace tandem
