#include "gpu-worker/stage/row_ops.h"

#include <cmath>
#include <utility>

#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/kernels/embed/embed_params.h"
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/qkv_rope/qkv_rope_params.h"
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "gpu-worker/stage/matmul_op.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kGegluGroup = 128;  // of geglu.comp
constexpr std::uint32_t kFewTokens = 16;

vulkan::BufferSlice VectorOf(const DeviceTensor& tensor) { return tensor.chunks.front().values; }

std::uint32_t Unsigned(std::int32_t value) { return static_cast<std::uint32_t>(value); }

// A plan with one kernel and one set of constants for every bucket.
template <typename Params, typename GroupsOf>
auto PlanOf(const DeviceContext& context, std::string kernel, std::vector<std::uint32_t> constants,
            Params params, double bytes_per_row, GroupsOf groups_of) {
  return [=](std::uint32_t rows) -> absl::StatusOr<DispatchPlan> {
    DispatchPlan plan;
    TANDEM_ASSIGN_OR_RETURN(plan.pipeline, context.pipelines.Get(kernel, constants));
    plan.SetPush(params);
    plan.groups = groups_of(rows);
    plan.work = {0, bytes_per_row * rows};
    return plan;
  };
}

}  // namespace

absl::Status RowOps::AppendEmbed(const DeviceTensor& embedding, const ResidualRef& output,
                                 std::vector<Op>* ops) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string suffix, KernelSuffix(embedding, "embedding"));
  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(config_.hidden_size)));
  for (const WeightChunk& chunk : embedding.chunks) {
    Op op;
    op.name = "embedding";
    op.barrier = false;  // chunks write different rows
    op.bindings = {step_, chunk.values, output.slice};
    if (chunk.scales.buffer != VK_NULL_HANDLE) op.bindings.push_back(chunk.scales);
    const kernels::EmbedParams params = {static_cast<std::uint32_t>(chunk.first_row),
                                         static_cast<std::uint32_t>(chunk.rows),
                                         Unsigned(config_.hidden_size), scale};
    op.plan = PlanOf(context_, Cat("embed_", suffix), {output.base}, params,
                     6.0 * config_.hidden_size, [](std::uint32_t rows) {
                       return vulkan::Groups{rows, 1, 1};
                     });
    ops->push_back(std::move(op));
  }
  return absl::OkStatus();
}

Op RowOps::Norm(std::string name, const ResidualRef& input, const DeviceTensor& weight,
                vulkan::BufferSlice normed, std::uint32_t count) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, input.slice, VectorOf(weight), normed};
  const kernels::RmsNormParams params = {Unsigned(config_.hidden_size), config_.rms_norm_eps};
  op.plan = PlanOf(context_, "rms_norm", {context_.tuning.norm_lanes, input.base, count}, params,
                   12.0 * config_.hidden_size, [](std::uint32_t rows) {
                     return vulkan::Groups{rows, 1, 1};
                   });
  return op;
}

Op RowOps::PostNorm(std::string name, vulkan::BufferSlice branch, const DeviceTensor& weight,
                    const ResidualRef& input, const ResidualRef& output,
                    const DeviceTensor* next_weight, vulkan::BufferSlice normed) const {
  Op op;
  op.name = std::move(name);
  // Without a next norm the last two bindings are not touched.
  op.bindings = {step_,
                 branch,
                 VectorOf(weight),
                 input.slice,
                 output.slice,
                 VectorOf(next_weight == nullptr ? weight : *next_weight),
                 next_weight == nullptr ? branch : normed};
  const kernels::PostNormParams params = {Unsigned(config_.hidden_size), config_.rms_norm_eps};
  const std::uint32_t next = next_weight == nullptr ? 0 : 1;
  op.plan =
      PlanOf(context_, "post_norm", {context_.tuning.norm_lanes, input.base, output.base, next},
             params, 28.0 * config_.hidden_size, [](std::uint32_t rows) {
               return vulkan::Groups{rows, 1, 1};
             });
  return op;
}

Op RowOps::Geglu(std::string name, vulkan::BufferSlice gate, vulkan::BufferSlice up) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, gate, up};
  const kernels::GegluParams params = {Unsigned(config_.ffn_size)};
  const auto groups = static_cast<std::uint32_t>(CeilDiv(Unsigned(config_.ffn_size), kGegluGroup));
  op.plan =
      PlanOf(context_, "geglu", {}, params, 12.0 * config_.ffn_size, [groups](std::uint32_t rows) {
        return vulkan::Groups{groups, rows, 1};
      });
  return op;
}

std::vector<std::uint32_t> RowOps::HeadConstants() const {
  return {Unsigned(config_.num_heads), Unsigned(config_.num_kv_heads), Unsigned(config_.head_dim)};
}

Op RowOps::QkvRope(std::string name, const AttentionBuffers& buffers,
                   const DeviceTensor& query_norm, const DeviceTensor& key_norm,
                   vulkan::BufferSlice frequencies) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_,       buffers.qkv,  VectorOf(query_norm), VectorOf(key_norm),
                 frequencies, buffers.keys, buffers.values};
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.query_pre_attn_scalar)));
  const kernels::QkvRopeParams params = {config_.rms_norm_eps, scale, buffers.window};
  const std::uint32_t heads = Unsigned(config_.num_heads + 2 * config_.num_kv_heads);
  op.plan =
      PlanOf(context_, buffers.type == KvType::kFloat16 ? "qkv_rope_f16" : "qkv_rope_f32",
             HeadConstants(), params, 8.0 * heads * config_.head_dim, [heads](std::uint32_t rows) {
               return vulkan::Groups{heads, rows, 1};
             });
  return op;
}

Op RowOps::Attention(std::string name, const AttentionBuffers& buffers) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, buffers.qkv, buffers.keys, buffers.values, buffers.attended};
  const kernels::AttentionParams params = {buffers.window};
  const std::uint32_t heads = Unsigned(config_.num_heads);
  // How long contexts are is not known here: 8192 keys a query stand for all.
  const double keys = buffers.window == 0 ? 8192.0 : buffers.window;
  const auto plan_of = [&](std::uint32_t parts) {
    std::vector<std::uint32_t> constants = HeadConstants();
    constants.insert(constants.begin(), parts * kAttentionLanes);
    return PlanOf(context_, buffers.type == KvType::kFloat16 ? "attention_f16" : "attention_f32",
                  constants, params, keys * heads * config_.head_dim * 0.5,
                  [heads](std::uint32_t rows) {
                    return vulkan::Groups{heads, rows, 1};
                  });
  };
  // With few tokens the keys of a head are shared out, with many there is work enough for all.
  op.plan = [few = plan_of(context_.tuning.attention_parts), many = plan_of(1)](
                std::uint32_t rows) { return rows <= kFewTokens ? few(rows) : many(rows); };
  return op;
}

}  // namespace tandem
