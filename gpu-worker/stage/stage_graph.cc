#include "gpu-worker/stage/stage_graph.h"

#include <cstdint>
#include <string>
#include <utility>

#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/stage/matmul_op.h"
#include "gpu-worker/stage/row_ops.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_residual.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

// Of qkv_rope.comp and attention.comp.
constexpr std::int32_t kMaxHeadDim = 256;
// Of sincos.glsl.
constexpr std::int32_t kMaxPositions = 1 << 17;

absl::Status CheckSupported(const ModelConfig& config, const ProgramSpec& program,
                            const StageSpec& spec) {
  if (program.activations != ActivationType::kFloat32) {
    return absl::UnimplementedError(
        "Vulkan stages compute with float32 activations; int8 activations were asked for");
  }
  if (config.hidden_size % 4 != 0) {
    return absl::UnimplementedError(Cat(
        "Vulkan kernels want a hidden size that is a multiple of 4, found ", config.hidden_size));
  }
  if (!spec.HasAttention()) return absl::OkStatus();
  if (config.head_dim > kMaxHeadDim || config.head_dim % 4 != 0) {
    return absl::UnimplementedError(
        Cat("Vulkan attention wants a head_dim that is a multiple of 4 and at most ", kMaxHeadDim,
            ", found ", config.head_dim));
  }
  if (program.limits.max_blocks_per_sequence > kMaxPositions / kKvBlockTokens) {
    return absl::UnimplementedError(
        Cat("Vulkan attention reaches position ", kMaxPositions, ", asked for ",
            static_cast<std::int64_t>(program.limits.max_blocks_per_sequence) * kKvBlockTokens));
  }
  return absl::OkStatus();
}

// Builds the lists of ops from the front to the back.
class GraphBuilder {
 public:
  GraphBuilder(const DeviceContext& context, const ModelConfig& config, const ProgramSpec& program,
               const ProgramStage& stage, const ProgramMemory& memory, StageGraph* graph)
      : context_(context),
        config_(config),
        program_(program),
        stage_(stage),
        spec_(stage.spec),
        memory_(memory),
        graph_(graph),
        rows_(context, config, memory.step.slice()) {}

  absl::Status Build() {
    TANDEM_RETURN_IF_ERROR(BindResiduals());
    if (spec_.embed) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* embedding, Find({TensorKind::kEmbedding, -1}));
      TANDEM_RETURN_IF_ERROR(rows_.AppendEmbed(*embedding, After(spec_.first_half), &graph_->body));
    }
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_RETURN_IF_ERROR(half % 2 == 0 ? Attention(half) : FeedForward(half));
    }
    for (const vulkan::Buffer& logits : memory_.logits) {
      if (!spec_.head) break;
      graph_->heads.emplace_back();
      if (memory_.sizes.logit_rows == 0) continue;
      TANDEM_RETURN_IF_ERROR(Head(logits.slice(), &graph_->heads.back()));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status BindResiduals() {
    const std::pair<ResidualBuffer*, ResidualRef*> pairs[] = {{stage_.input, &input_},
                                                              {stage_.output, &output_}};
    for (const auto& [buffer, ref] : pairs) {
      if (buffer == nullptr) continue;
      const auto* residual = dynamic_cast<const VulkanResidual*>(buffer);
      if (residual == nullptr) {
        return absl::InvalidArgumentError("a residual buffer was not made by this Vulkan device");
      }
      *ref = {residual->buffer().slice(),
              ref == &input_ ? kernels::kBaseInput : kernels::kBaseOutput};
    }
    return absl::OkStatus();
  }

  absl::StatusOr<const DeviceTensor*> Find(TensorId id) const {
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

  // The residual stream before half `half`, and after all halves below it.
  ResidualRef Before(std::int32_t half) const {
    if (half == spec_.first_half && !spec_.embed) return input_;
    return {memory_.residual.slice(), kernels::kBaseZero};
  }
  ResidualRef After(std::int32_t half) const {
    if (half == spec_.last_half && !spec_.head) return output_;
    return {memory_.residual.slice(), kernels::kBaseZero};
  }

  static TensorId NormOf(std::int32_t half) {
    return {half % 2 == 0 ? TensorKind::kAttentionNorm : TensorKind::kFfnNorm, half / 2};
  }

  // The norm in front of a half; later halves get theirs from the post-norm before them.
  absl::Status FirstNorm(std::int32_t half) {
    if (half != spec_.first_half) return absl::OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(NormOf(half)));
    graph_->body.push_back(rows_.Norm(TensorName(NormOf(half)), Before(half), *weight,
                                      memory_.normed.slice(), kernels::kRowsAreTokens));
    return absl::OkStatus();
  }

  absl::Status PostNorm(std::int32_t half, TensorKind kind) {
    const TensorId id{kind, half / 2};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(id));
    const DeviceTensor* next = nullptr;
    if (half + 1 < spec_.last_half) {
      TANDEM_ASSIGN_OR_RETURN(next, Find(NormOf(half + 1)));
    }
    graph_->body.push_back(rows_.PostNorm(TensorName(id), memory_.branch.slice(), *weight,
                                          Before(half), After(half + 1), next,
                                          memory_.normed.slice()));
    return absl::OkStatus();
  }

  // Appends tensor * input to the body.
  absl::Status Product(TensorKind kind, std::int32_t layer, const vulkan::Buffer& input,
                       const MatmulTarget& target, bool barrier) {
    const TensorId id{kind, layer};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* matrix, Find(id));
    return AppendMatmul(context_, TensorName(id), *matrix, memory_.step.slice(), input.slice(),
                        target, kernels::kRowsAreTokens, barrier, &graph_->body);
  }

  absl::Status Attention(std::int32_t half) {
    const std::int32_t layer = half / 2;
    auto* cache = dynamic_cast<const VulkanKvCache*>(program_.kv_cache);
    if (cache == nullptr) {
      return absl::InvalidArgumentError("the KV cache was not made by this Vulkan device");
    }
    TANDEM_RETURN_IF_ERROR(FirstNorm(half));
    const auto query = static_cast<std::uint32_t>(config_.num_heads * config_.head_dim);
    const auto key = static_cast<std::uint32_t>(config_.num_kv_heads * config_.head_dim);
    const std::uint32_t stride = query + 2 * key;
    const vulkan::BufferSlice qkv = memory_.qkv.slice();
    TANDEM_RETURN_IF_ERROR(
        Product(TensorKind::kQuery, layer, memory_.normed, {qkv, stride, 0}, true));
    TANDEM_RETURN_IF_ERROR(
        Product(TensorKind::kKey, layer, memory_.normed, {qkv, stride, query}, false));
    TANDEM_RETURN_IF_ERROR(
        Product(TensorKind::kValue, layer, memory_.normed, {qkv, stride, query + key}, false));
    TANDEM_RETURN_IF_ERROR(AppendHeads(layer, *cache));
    const auto hidden = static_cast<std::uint32_t>(config_.hidden_size);
    TANDEM_RETURN_IF_ERROR(Product(TensorKind::kAttentionOutput, layer, memory_.attended,
                                   {memory_.branch.slice(), hidden, 0}, true));
    return PostNorm(half, TensorKind::kPostAttentionNorm);
  }

  absl::Status AppendHeads(std::int32_t layer, const VulkanKvCache& cache) {
    const bool global = config_.layer_is_global[static_cast<std::size_t>(layer)];
    const VulkanKvCache::Layer& planes = cache.Find(layer);
    RowOps::AttentionBuffers buffers;
    buffers.qkv = memory_.qkv.slice();
    buffers.keys = planes.keys.slice();
    buffers.values = planes.values.slice();
    buffers.attended = memory_.attended.slice();
    buffers.type = cache.spec().type;
    buffers.window = global ? 0 : static_cast<std::uint32_t>(config_.sliding_window);
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* query_norm, Find({TensorKind::kQueryNorm, layer}));
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* key_norm, Find({TensorKind::kKeyNorm, layer}));
    const vulkan::Buffer& frequencies =
        global ? memory_.global_frequencies : memory_.window_frequencies;
    graph_->body.push_back(rows_.QkvRope(Cat("RoPE of layer ", layer), buffers, *query_norm,
                                         *key_norm, frequencies.slice()));
    graph_->body.push_back(rows_.Attention(Cat("attention of layer ", layer), buffers));
    return absl::OkStatus();
  }

  absl::Status FeedForward(std::int32_t half) {
    const std::int32_t layer = half / 2;
    TANDEM_RETURN_IF_ERROR(FirstNorm(half));
    const auto ffn = static_cast<std::uint32_t>(config_.ffn_size);
    const auto hidden = static_cast<std::uint32_t>(config_.hidden_size);
    TANDEM_RETURN_IF_ERROR(
        Product(TensorKind::kFfnGate, layer, memory_.normed, {memory_.gate.slice(), ffn, 0}, true));
    TANDEM_RETURN_IF_ERROR(
        Product(TensorKind::kFfnUp, layer, memory_.normed, {memory_.up.slice(), ffn, 0}, false));
    graph_->body.push_back(
        rows_.Geglu(Cat("GeGLU of layer ", layer), memory_.gate.slice(), memory_.up.slice()));
    TANDEM_RETURN_IF_ERROR(Product(TensorKind::kFfnDown, layer, memory_.gate,
                                   {memory_.branch.slice(), hidden, 0}, true));
    return PostNorm(half, TensorKind::kPostFfnNorm);
  }

  absl::Status Head(vulkan::BufferSlice logits, std::vector<Op>* ops) {
    const TensorId norm{TensorKind::kFinalNorm, -1};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(norm));
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* embedding, Find({TensorKind::kEmbedding, -1}));
    ops->push_back(rows_.Norm(TensorName(norm), Before(spec_.last_half), *weight,
                              memory_.head_normed.slice(), kernels::kRowsAreLogits));
    const auto vocab = static_cast<std::uint32_t>(config_.vocab_size);
    return AppendMatmul(context_, "head", *embedding, memory_.step.slice(),
                        memory_.head_normed.slice(), {logits, vocab, 0}, kernels::kRowsAreLogits,
                        true, ops);
  }

  const DeviceContext& context_;
  const ModelConfig& config_;
  const ProgramSpec& program_;
  const ProgramStage& stage_;
  const StageSpec& spec_;
  const ProgramMemory& memory_;
  StageGraph* const graph_;
  const RowOps rows_;
  ResidualRef input_;
  ResidualRef output_;
};

}  // namespace

absl::StatusOr<StageGraph> BuildStageGraph(const DeviceContext& context, const ModelConfig& config,
                                           const ProgramSpec& program, const ProgramStage& stage,
                                           const ProgramMemory& memory) {
  TANDEM_RETURN_IF_ERROR(CheckSupported(config, program, stage.spec));
  StageGraph graph;
  TANDEM_RETURN_IF_ERROR(GraphBuilder(context, config, program, stage, memory, &graph).Build());
  return graph;
}

}  // namespace tandem
