#include <algorithm>
#include <cmath>
#include <cstdint>

#include "lib/device/cpu/cpu_stage.h"
#include "lib/device/cpu/kernels.h"

namespace tandem {

void CpuStage::Run() {
  shared_->products.Begin(options_.activations, &cancelled_);
  RunHalves();
  // Cancelled after the last half, the step is still whole; where work was skipped the flag was
  // seen before.
  std::lock_guard lock(mutex_);
  was_cancelled_ = shared_->products.cancelled();
  state_ = State::kDone;
  // Under the lock: once the waiter sees the state, the stage may be destroyed.
  done_.notify_all();
}

void CpuStage::RunHalves() {
  if (target_ == nullptr) target_ = shared_->scratch.residual.as<float>();
  if (spec_.embed) Embed();
  if (!plan_.attention.empty()) FillRope();
  auto attention = plan_.attention.begin();
  auto ffn = plan_.ffn.begin();
  for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
    if (shared_->products.cancelled()) return;
    if (half % 2 == 0) {
      AttentionHalf(*attention++);
    } else {
      FfnHalf(*ffn++);
    }
  }
  if (spec_.head) Head();
}

void CpuStage::Embed() {
  const std::int64_t hidden = config_.hidden_size;
  shared_->products.ForEach(tokens(), [&](std::int64_t t, int) {
    ScaledRow(plan_.embedding, step_.tokens()[static_cast<std::size_t>(t)].id,
              plan_.embedding_scale, target_ + t * hidden);
  });
  base_ = target_;
}

// Planes of the buffer: cosines and sines of the local layers, then of the global ones; each
// (tokens, head_dim / 2).
void CpuStage::FillRope() {
  const std::int64_t plane = tokens() * (config_.head_dim / 2);
  auto* rope = shared_->scratch.rope.as<float>();
  FillRopeOf(plan_.local_frequencies, rope, rope + plane);
  FillRopeOf(plan_.global_frequencies, rope + 2 * plane, rope + 3 * plane);
}

void CpuStage::FillRopeOf(const std::vector<float>& frequencies, float* cosines, float* sines) {
  if (frequencies.empty()) return;
  const auto half = static_cast<std::int64_t>(frequencies.size());
  shared_->products.ForEach(tokens(), [&](std::int64_t t, int) {
    const auto position = static_cast<float>(step_.tokens()[static_cast<std::size_t>(t)].position);
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = position * frequencies[static_cast<std::size_t>(i)];
      cosines[t * half + i] = std::cos(angle);
      sines[t * half + i] = std::sin(angle);
    }
  });
}

void CpuStage::Norm(const float* weights) {
  const std::int64_t hidden = config_.hidden_size;
  auto* normed = shared_->scratch.normed.as<float>();
  shared_->products.ForEach(tokens(), [&](std::int64_t t, int) {
    RmsNormRow(base_ + t * hidden, weights, hidden, config_.rms_norm_eps, normed + t * hidden);
  });
  shared_->products.SetInput({normed, hidden, tokens()}, hidden);
}

void CpuStage::AddNormed(const float* weights) {
  const std::int64_t hidden = config_.hidden_size;
  const auto* projected = shared_->scratch.projected.as<float>();
  shared_->products.ForEach(tokens(), [&](std::int64_t t, int) {
    AddRmsNormRow(base_ + t * hidden, projected + t * hidden, weights, hidden, config_.rms_norm_eps,
                  target_ + t * hidden);
  });
  base_ = target_;
}

void CpuStage::AttentionHalf(const CpuAttentionHalf& half) {
  CpuScratch& scratch = shared_->scratch;
  CpuProducts& products = shared_->products;
  Norm(half.norm);
  const CpuProducts::Output inputs[] = {{&half.query, scratch.queries.as<float>()},
                                        {&half.key, scratch.keys.as<float>()},
                                        {&half.value, scratch.values.as<float>()}};
  products.Run(inputs);
  products.ForEach(tokens(), [&](std::int64_t t, int) { StoreToken(half, t); });
  const std::int64_t heads = config_.num_heads;
  products.ForEach(tokens() * heads,
                   [&](std::int64_t i, int) { AttendToken(half, i / heads, i % heads); });
  const std::int64_t width = heads * config_.head_dim;
  products.SetInput({scratch.attended.as<float>(), width, tokens()}, width);
  const CpuProducts::Output output[] = {{&half.output, scratch.projected.as<float>()}};
  products.Run(output);
  AddNormed(half.post_norm);
}

// Norms and rotates a token's queries and keys, and puts its keys and values into the cache.
void CpuStage::StoreToken(const CpuAttentionHalf& half, std::int64_t token) {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t kv_heads = config_.num_kv_heads;
  const float eps = config_.rms_norm_eps;
  const std::int64_t plane = tokens() * (dim / 2);
  const float* cosines =
      shared_->scratch.rope.as<float>() + (half.global ? 2 * plane : 0) + token * (dim / 2);
  const float* sines = cosines + plane;
  float* query = shared_->scratch.queries.as<float>() + token * config_.num_heads * dim;
  for (std::int64_t h = 0; h < config_.num_heads; ++h, query += dim) {
    RmsNormRow(query, half.query_norm, dim, eps, query);
    RotateRow(query, cosines, sines, dim, plan_.query_scale);
  }
  const CpuStepCopy::Token& at = step_.tokens()[static_cast<std::size_t>(token)];
  const std::int64_t block = step_.blocks(at.sequence, half.global)[at.position / kKvBlockTokens];
  float* key = shared_->scratch.keys.as<float>() + token * kv_heads * dim;
  const float* value = shared_->scratch.values.as<float>() + token * kv_heads * dim;
  for (std::int64_t h = 0; h < kv_heads; ++h, key += dim, value += dim) {
    RmsNormRow(key, half.key_norm, dim, eps, key);
    RotateRow(key, cosines, sines, dim, 1.0f);
    const std::int64_t row = (block * kv_heads + h) * kKvBlockTokens + at.position % kKvBlockTokens;
    StoreKv(key, dim, kv_spec_.type, half.cache.keys, row);
    StoreKv(value, dim, kv_spec_.type, half.cache.values, row);
  }
}

void CpuStage::AttendToken(const CpuAttentionHalf& half, std::int64_t token, std::int64_t head) {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t kv_head = head / (config_.num_heads / config_.num_kv_heads);
  const std::int64_t element = kv_spec_.type == KvType::kFloat32 ? 4 : 2;
  const std::int64_t offset = kv_head * kKvBlockTokens * dim * element;
  const CpuStepCopy::Token& at = step_.tokens()[static_cast<std::size_t>(token)];
  AttendJob job;
  job.query = shared_->scratch.queries.as<float>() + (token * config_.num_heads + head) * dim;
  job.out = shared_->scratch.attended.as<float>() + (token * config_.num_heads + head) * dim;
  job.keys = half.cache.keys + offset;
  job.values = half.cache.values + offset;
  job.block_stride = config_.num_kv_heads * kKvBlockTokens * dim;
  job.blocks = step_.blocks(at.sequence, half.global);
  job.first_position = half.global ? 0 : std::max(0, at.position - config_.sliding_window + 1);
  job.last_position = at.position;
  job.head_dim = dim;
  job.type = kv_spec_.type;
  Attend(job);
}

void CpuStage::FfnHalf(const CpuFfnHalf& half) {
  CpuScratch& scratch = shared_->scratch;
  Norm(half.norm);
  shared_->products.RunGated({&half.gate, scratch.gate.as<float>()},
                             {&half.up, scratch.up.as<float>()});
  shared_->products.SetInput({scratch.gate.as<float>(), config_.ffn_size, tokens()},
                             config_.ffn_size);
  const CpuProducts::Output output[] = {{&half.down, scratch.projected.as<float>()}};
  shared_->products.Run(output);
  AddNormed(half.post_norm);
}

void CpuStage::Head() {
  const std::int64_t hidden = config_.hidden_size;
  const auto rows = static_cast<std::int64_t>(step_.logit_rows().size());
  auto* normed = shared_->scratch.normed.as<float>();
  shared_->products.ForEach(rows, [&](std::int64_t i, int) {
    const float* row = base_ + step_.logit_rows()[static_cast<std::size_t>(i)] * hidden;
    RmsNormRow(row, plan_.final_norm, hidden, config_.rms_norm_eps, normed + i * hidden);
  });
  if (rows == 0) return;
  shared_->products.SetInput({normed, hidden, rows}, hidden);
  const CpuProducts::Output output[] = {{&plan_.embedding, logits_.as<float>()}};
  shared_->products.Run(output);
}

}  // namespace tandem
