#include "gpu-worker/stage/row_ops.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/kernels/copy_rows/copy_rows_params.h"
#include "gpu-worker/kernels/embed/embed_params.h"
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/qkv_rope/qkv_rope_params.h"
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "gpu-worker/stage/matmul_op.h"
#include "gpu-worker/stage/program_memory.h"
#include "gpu-worker/stage/tile_attention.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::uint32_t kGegluGroup = 128;      // of geglu.comp
constexpr std::uint32_t kCopyGroup = 128;       // of copy_rows.comp
constexpr std::uint32_t kBlockLanes = 64;       // of logit_blocks.comp, at most
constexpr std::uint32_t kCandidateLanes = 512;  // of candidates.comp, at most: shared memory
// Logits that a lane of it keeps in registers: all of a block where the vocabulary is one that is
// known.
constexpr std::uint64_t kMostHeld = 12;

vulkan::BufferSlice VectorOf(const DeviceTensor& tensor) { return tensor.chunks.front().values; }

std::uint32_t Unsigned(std::int32_t value) { return static_cast<std::uint32_t>(value); }

// Of kernels that keep a row in registers.
std::uint32_t VecsOfLane(const Tuning& tuning, std::uint32_t hidden) {
  return static_cast<std::uint32_t>(CeilDiv(hidden / 4, tuning.norm_lanes));
}

template <typename Params>
absl::StatusOr<DispatchPlan> MakePlan(const DeviceContext& context, const std::string& kernel,
                                      const std::vector<std::uint32_t>& constants,
                                      const Params& params, vulkan::Groups groups, double bytes) {
  DispatchPlan plan;
  TANDEM_ASSIGN_OR_RETURN(plan.pipeline, context.pipelines.Get(kernel, constants));
  plan.SetPush(params);
  plan.groups = groups;
  plan.work = {0, bytes};
  return plan;
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
    op.plan = [context = context_, kernel = Cat("embed_", suffix), base = output.base,
               params](std::uint32_t rows) {
      return MakePlan(context, kernel, {base}, params, {rows, 1, 1}, 6.0 * params.hidden * rows);
    };
    ops->push_back(std::move(op));
  }
  return absl::OkStatus();
}

Op RowOps::Norm(std::string name, const ResidualRef& input, const DeviceTensor& weight,
                const ProductRows& normed, std::uint32_t count) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, input.slice, VectorOf(weight), normed.slice};
  op.plan = [context = context_, reader = normed.product, hidden = Unsigned(config_.hidden_size),
             epsilon = config_.rms_norm_eps, base = input.base, count](std::uint32_t rows) {
    return MakePlan(context, Cat("rms_norm", FormSuffix(reader.form(rows))),
                    {context.tuning.norm_lanes, base, count, VecsOfLane(context.tuning, hidden)},
                    kernels::RmsNormParams{hidden, epsilon, reader.pad(rows)}, {rows, 1, 1},
                    12.0 * hidden * rows);
  };
  return op;
}

Op RowOps::PlainNorm(std::string name, const ResidualRef& input, const DeviceTensor& weight,
                     vulkan::BufferSlice normed) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, input.slice, VectorOf(weight), normed};
  op.plan = [context = context_, hidden = Unsigned(config_.hidden_size),
             epsilon = config_.rms_norm_eps, base = input.base](std::uint32_t rows) {
    return MakePlan(context, "rms_norm",
                    {context.tuning.norm_lanes, base, kernels::kRowsAreTokens,
                     VecsOfLane(context.tuning, hidden)},
                    kernels::RmsNormParams{hidden, epsilon, rows}, {rows, 1, 1},
                    12.0 * hidden * rows);
  };
  return op;
}

Op RowOps::PostNorm(std::string name, const ProductRows& branch, const DeviceTensor& weight,
                    const ResidualRef& input, const ResidualRef& output,
                    const std::optional<NextNorm>& next, PostNormKind kind) const {
  Op op;
  op.name = std::move(name);
  // Without a next norm the last two bindings are not touched.
  op.bindings = {step_,
                 branch.slice,
                 VectorOf(weight),
                 input.slice,
                 output.slice,
                 VectorOf(next.has_value() ? next->weight : weight),
                 next.has_value() ? next->normed.slice : branch.slice};
  std::optional<Product> reader;
  if (next.has_value()) reader.emplace(next->normed.product);
  op.plan = [context = context_, writer = branch.product, reader,
             hidden = Unsigned(config_.hidden_size), epsilon = config_.rms_norm_eps,
             from = input.base, to = output.base,
             kind](std::uint32_t rows) -> absl::StatusOr<DispatchPlan> {
    if (!kind.always && writer.MakesPostNorm(rows, reader.has_value() ? &*reader : nullptr))
      return DispatchPlan{};
    const bool norms = reader.has_value();
    const std::string form(norms ? FormSuffix(reader->form(rows)) : "");
    const kernels::PostNormParams params{hidden, epsilon, rows * hidden,
                                         norms ? reader->pad(rows) : rows};
    const std::uint32_t parts = writer.parts(rows);
    std::vector<std::uint32_t> constants = {
        context.tuning.norm_lanes, from,  to,
        norms ? 1u : 0u,           parts, VecsOfLane(context.tuning, hidden)};
    if (kind.chained) constants.push_back(context.tuning.chain.cumulative ? 1 : 0);
    TANDEM_ASSIGN_OR_RETURN(
        DispatchPlan plan,
        MakePlan(context, Cat("post_norm", form, kind.chained ? "_chained" : ""), constants, params,
                 {rows, 1, 1}, (24.0 + 4 * parts) * hidden * rows));
    if (kind.chained) plan.signals = rows;
    return plan;
  };
  return op;
}

Op RowOps::Geglu(std::string name, const ProductRows& gate_up, const ProductRows& activated) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, gate_up.slice, activated.slice};
  op.plan = [context = context_, writer = gate_up.product, reader = activated.product,
             ffn = Unsigned(config_.ffn_size)](std::uint32_t rows) {
    if (writer.MakesGeglu(rows, reader)) return absl::StatusOr<DispatchPlan>(DispatchPlan{});
    const kernels::GegluParams params{ffn, reader.pad(rows), reader.input_scale(rows)};
    const auto groups = static_cast<std::uint32_t>(CeilDiv(ffn, 4 * kGegluGroup));
    return MakePlan(context, Cat("geglu", FormSuffix(reader.form(rows))), {}, params,
                    {groups, rows, 1}, 12.0 * ffn * rows);
  };
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
  op.bindings = {step_,       buffers.qkv.slice, VectorOf(query_norm), VectorOf(key_norm),
                 frequencies, buffers.keys,      buffers.values};
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.query_pre_attn_scalar)));
  const std::uint32_t heads = Unsigned(config_.num_heads + 2 * config_.num_kv_heads);
  const kernels::QkvRopeParams params = {config_.rms_norm_eps, scale, buffers.window, 0};
  op.plan = [context = context_, writer = buffers.qkv, params, heads,
             columns = heads * Unsigned(config_.head_dim), constants = HeadConstants(),
             kernel = Cat("qkv_rope_", KvSuffix(buffers.type))](std::uint32_t rows) {
    kernels::QkvRopeParams of_bucket = params;
    of_bucket.part_stride = rows * columns;
    std::vector<std::uint32_t> with_parts = constants;
    with_parts.push_back(writer.parts(rows));
    return MakePlan(context, kernel, with_parts, of_bucket, {heads, rows, 1}, 8.0 * columns * rows);
  };
  return op;
}

Op RowOps::Attention(std::string name, const AttentionBuffers& buffers) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, buffers.qkv.slice, buffers.keys, buffers.values, buffers.attended.slice};
  const std::uint32_t heads = Unsigned(config_.num_heads);
  // How long contexts are is not known here: 8192 keys a query stand for all.
  const double keys = buffers.window == 0 ? 8192.0 : buffers.window;
  op.plan = [context = context_, reader = buffers.attended, heads,
             kv_heads = Unsigned(config_.num_kv_heads), constants = HeadConstants(),
             window = buffers.window, both = config_.bidirectional ? 1u : 0u,
             bytes = keys * heads * config_.head_dim * 0.5,
             kernel = Cat("attention_", KvSuffix(buffers.type))](std::uint32_t rows) {
    const AttentionShape shape = ChooseAttentionShape(context.tuning, heads, kv_heads, rows);
    std::vector<std::uint32_t> shaped = constants;
    shaped.insert(shaped.begin(), shape.parts * kAttentionLanes);
    shaped.push_back(shape.shared_heads);
    return MakePlan(context, Cat(kernel, FormSuffix(reader.form(rows))), shaped,
                    kernels::AttentionParams{window, reader.pad(rows), both},
                    {heads / shape.shared_heads, rows, 1}, bytes * rows);
  };
  return op;
}

Op RowOps::CopyRows(std::string name, const ResidualRef& from, const ResidualRef& to,
                    std::uint32_t columns) const {
  Op op;
  op.name = std::move(name);
  op.bindings = {step_, from.slice, to.slice};
  op.plan = [context = context_, columns, from = from.base, to = to.base](std::uint32_t rows) {
    const auto groups = static_cast<std::uint32_t>(CeilDiv(columns, 4 * kCopyGroup));
    return MakePlan(context, "copy_rows", {from, to}, kernels::CopyRowsParams{columns},
                    {groups, rows, 1}, 8.0 * columns * rows);
  };
  return op;
}

Op RowOps::LogitBlocks(vulkan::BufferSlice logits, vulkan::BufferSlice of_blocks,
                       const kernels::CandidatesParams& params) const {
  Op op;
  op.name = "blocks of logits";
  op.bindings = {step_, logits, of_blocks};
  op.plan = [context = context_, params](std::uint32_t rows) {
    const std::uint32_t lanes = std::min(context.tuning.norm_lanes, kBlockLanes);
    const std::uint64_t held = std::min(CeilDiv(params.block, lanes), kMostHeld);
    return MakePlan(context, "logit_blocks", {lanes, static_cast<std::uint32_t>(held)}, params,
                    {params.blocks, rows, 1}, 4.0 * params.vocab * rows);
  };
  return op;
}

Op RowOps::Candidates(vulkan::BufferSlice logits, vulkan::BufferSlice of_blocks,
                      vulkan::BufferSlice found, const kernels::CandidatesParams& params) const {
  Op op;
  op.name = "candidates";
  op.bindings = {step_, logits, of_blocks, found};
  op.plan = [context = context_, params](std::uint32_t rows) {
    return MakePlan(context, "candidates", {std::min(context.tuning.norm_lanes, kCandidateLanes)},
                    params, {rows, 1, 1}, 4.0 * kernels::kLogitBlockFloats * params.blocks * rows);
  };
  return op;
}

Op RowOps::TileAttention(std::string name, const AttentionBuffers& buffers) const {
  Op op;
  op.name = std::move(name);
  op.barrier = false;
  op.bindings = {step_, buffers.qkv.slice, buffers.keys, buffers.values, buffers.attended.slice};
  const TileHeads heads = {Unsigned(config_.num_heads), Unsigned(config_.num_kv_heads),
                           Unsigned(config_.head_dim)};
  const double keys = buffers.window == 0 ? 8192.0 : buffers.window;
  op.plan = [context = context_, reader = buffers.attended, heads, window = buffers.window,
             both = config_.bidirectional ? 1u : 0u,
             flops = keys * 4 * heads.heads * heads.head_dim,
             cache = std::string(KvSuffix(buffers.type))](
                std::uint32_t rows) -> absl::StatusOr<DispatchPlan> {
    if (rows < kernels::kMinTiledTokens) return DispatchPlan{};
    const ActivationForm form = reader.form(rows);
    const kernels::AttentionParams params{window, reader.pad(rows), both};
    const vulkan::PhysicalDevice& physical = context.device.physical();
    // The kernel with matrices knows no later keys.
    const bool matrices = both == 0 && form == ActivationForm::kF16 && context.matrices() &&
                          MatrixAttentionFits(physical, heads, context.tuning.lean_attention);
    const char* const lean = context.tuning.lean_attention ? "_lean" : "";
    const TileAttentionShape shape =
        matrices ? MatrixAttentionShape(heads) : PlainAttentionShape(heads);
    const std::uint32_t groups_a_tile = kernels::kTileTokens / shape.tokens;
    absl::StatusOr<DispatchPlan> plan =
        MakePlan(context,
                 matrices ? Cat("attention_matrix_", cache, "_", heads.head_dim, lean)
                          : Cat("attention_tile_", cache, FormSuffix(form)),
                 shape.constants, params,
                 {heads.heads / shape.shared_heads, MostTiles(rows) * groups_a_tile, 1}, 0);
    if (plan.ok()) plan->work.flops = flops * rows / (matrices ? kPackedSpeed : 1);
    return plan;
  };
  return op;
}

}  // namespace tandem
