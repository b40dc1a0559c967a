#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "lib/device/cpu/cpu_stage.h"
#include "lib/model/attention_rows.h"
#include "lib/model/kv_layout.h"

namespace tandem {
namespace {

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
        input_(rows.input),
        output_(rows.output),
        base_(stage.spec.begin == AttentionCut::kAttended ? rows.kept : rows.input),
        rows_(static_cast<std::int64_t>(step.tokens().size())),
        target_(TargetOf(stage.spec, rows, work->scratch)),
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
  static float* TargetOf(const StageSpec& spec, const CpuStageRows& rows,
                         const CpuScratch& scratch) {
    if (spec.end == AttentionCut::kProjected) return rows.kept;
    return rows.output == nullptr ? scratch.residual.as<float>() : rows.output;
  }
  void AttentionHalf(const CpuAttentionHalf& half);
  void Project(const CpuAttentionHalf& half);
  void LeaveProjected();
  void TakeProjected();
  void Attend(const CpuAttentionHalf& half);
  // Where the attention of a half leaves what it found.
  float* attended() const {
    return stage_.spec.end == AttentionCut::kAttended ? output_ : scratch_.attended.as<float>();
  }
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
  // What the stage was given.
  const float* input_;
  float* output_;
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
  if (half.projects) Project(half);
  if (!half.attends && !half.outputs) return LeaveProjected();
  if (!half.projects && half.attends) TakeProjected();
  if (half.attends) Attend(half);
  if (!half.outputs) return;
  const std::int64_t width = AttendedColumns(config_);
  products_.SetInput({half.attends ? attended() : input_, width, tokens()}, width);
  const CpuProducts::Output output[] = {{&half.output, scratch_.projected.as<float>()}};
  products_.Run(output);
  AddNormed(half.post_norm);
}

// The queries, keys and values that stand in memory of their own.
void StagePass::Project(const CpuAttentionHalf& half) {
  Norm(half.norm);
  const CpuProducts::Output inputs[] = {{&half.query, scratch_.queries.as<float>()},
                                        {&half.key, scratch_.keys.as<float>()},
                                        {&half.value, scratch_.values.as<float>()}};
  products_.Run(inputs);
}

// Hands them over as rows, and keeps the residual for the stage that goes on behind attention.
void StagePass::LeaveProjected() {
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  const auto queries = static_cast<std::size_t>(AttendedColumns(config_));
  const auto keys = static_cast<std::size_t>(config_.num_kv_heads * config_.head_dim);
  products_.ForEach(CpuPart::kCache, tokens(), [&](std::int64_t token, int) {
    const auto t = static_cast<std::size_t>(token);
    float* row = output_ + t * (queries + 2 * keys);
    row = std::copy_n(scratch_.queries.as<float>() + t * queries, queries, row);
    row = std::copy_n(scratch_.keys.as<float>() + t * keys, keys, row);
    std::copy_n(scratch_.values.as<float>() + t * keys, keys, row);
    if (base_ != target_) std::copy_n(base_ + t * hidden, hidden, target_ + t * hidden);
  });
}

void StagePass::TakeProjected() {
  const auto queries = static_cast<std::size_t>(AttendedColumns(config_));
  const auto keys = static_cast<std::size_t>(config_.num_kv_heads * config_.head_dim);
  products_.ForEach(CpuPart::kCache, tokens(), [&](std::int64_t token, int) {
    const auto t = static_cast<std::size_t>(token);
    const float* row = input_ + t * (queries + 2 * keys);
    std::copy_n(row, queries, scratch_.queries.as<float>() + t * queries);
    std::copy_n(row + queries, keys, scratch_.keys.as<float>() + t * keys);
    std::copy_n(row + queries + keys, keys, scratch_.values.as<float>() + t * keys);
  });
}

void StagePass::Attend(const CpuAttentionHalf& half) {
  products_.ForEach(CpuPart::kCache, tokens(), [&](std::int64_t t, int) { StoreToken(half, t); });
  // Heads that share keys go together, unless that leaves processors without work.
  const std::int64_t sharing = config_.num_heads / config_.num_kv_heads;
  const bool together = tokens() * config_.num_kv_heads >= 4 * products_.threads();
  const std::int64_t heads = together ? sharing : 1;
  const std::int64_t jobs = config_.num_heads / heads;
  products_.ForEach(CpuPart::kAttention, tokens() * jobs, [&](std::int64_t i, int) {
    AttendToken(half, i / jobs, i % jobs * heads, heads);
  });
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
  job.out = attended() + (token * config_.num_heads + first_head) * dim;
  job.keys = half.cache.keys + kv_head * head_bytes;
  job.values = half.cache.values + kv_head * head_bytes;
  job.block_bytes = config_.num_kv_heads * head_bytes;
  job.blocks = step_.blocks(at.sequence, half.global);
  job.first_position = half.global ? 0 : std::max(0, at.position - config_.sliding_window + 1);
  job.last_position = LastSeen(config_, at, half.global);
  job.head_dim = dim;
  job.type = stage_.kv_type;
  tandem::Attend(job);
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

void RunCpuStage(const ModelConfig& config, const CpuStage& stage, const CpuStepCopy& step,
                 const CpuStageRows& rows, CpuWorkspace* work) {
  StagePass(config, stage, step, rows, work).Run();
}

}  // namespace tandem
