#include "gpu-worker/stage/stage_graph.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gpu-worker/kernels/common/step_params.h"
#include "gpu-worker/stage/chain.h"
#include "gpu-worker/stage/decode_attention.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/row_ops.h"
#include "gpu-worker/stage/stream.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
#include "gpu-worker/stage/vulkan_residual.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/attention_rows.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

// Of qkv_rope.comp and attention.comp.
constexpr std::int32_t kMaxHeadDim = 256;
// Of sincos.glsl.
constexpr std::int32_t kMaxPositions = 1 << 17;

absl::Status CheckSupported(const ModelConfig& config, const ProgramSpec& program,
                            const StageSpec& spec) {
  if (program.activations == ActivationType::kInt8) {
    return absl::UnimplementedError(
        "Vulkan stages compute with float32 activations or such as suit the device (auto); int8 "
        "activations were asked for");
  }
  if (config.hidden_size % 4 != 0) {
    return absl::UnimplementedError(Cat(
        "Vulkan kernels want a hidden size that is a multiple of 4, found ", config.hidden_size));
  }
  if (spec.KeepsResidual()) {
    return absl::UnimplementedError(Cat("stage '", StageSpecName(spec),
                                        "': a Vulkan device takes attention alone out of a "
                                        "layer, and not the products around it"));
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
    TANDEM_RETURN_IF_ERROR(Body(&graph_->body));
    if (spec_.HasAttention() && !Alone() && DecodesApart(context_, config_)) {
      decodes_ = true;
      TANDEM_RETURN_IF_ERROR(Body(&graph_->decode));
      TANDEM_ASSIGN_OR_RETURN(const bool single, FitsSingle(/*chained=*/false));
      if (single) TANDEM_RETURN_IF_ERROR(Single(&graph_->single));
      TANDEM_ASSIGN_OR_RETURN(const bool chained, FitsChain());
      if (chained) {
        Chain chain(context_, memory_.chain_words.slice(), memory_.chain_report.slice());
        chain_ = &chain;
        TANDEM_RETURN_IF_ERROR(Single(&graph_->chained));
        chain_ = nullptr;
      }
    }
    for (std::size_t context = 0; spec_.head && context < memory_.logits.size(); ++context) {
      TANDEM_RETURN_IF_ERROR(HiddenStates(memory_.hidden_states[context].slice()));
      graph_->heads.emplace_back();
      if (memory_.sizes.logit_rows == 0) continue;
      std::vector<Op>* const ops = &graph_->heads.back();
      const vulkan::BufferSlice logits = memory_.logits[context].slice();
      TANDEM_RETURN_IF_ERROR(Head(logits, ops));
      ops->push_back(rows_.LogitBlocks(logits, memory_.of_blocks.slice(), BlocksOfRows()));
      ops->push_back(rows_.Candidates(logits, memory_.of_blocks.slice(),
                                      memory_.found[context].slice(), BlocksOfRows()));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Body(std::vector<Op>* ops) {
    ops_ = ops;
    if (spec_.embed) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* embedding, Find({TensorKind::kEmbedding, -1}));
      TANDEM_RETURN_IF_ERROR(rows_.AppendEmbed(*embedding, After(spec_.first_half), ops));
    }
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_RETURN_IF_ERROR(half % 2 == 0 ? Attention(half) : FeedForward(half));
    }
    return absl::OkStatus();
  }

  // Attention between products that are made elsewhere.
  bool Alone() const { return spec_.begin == AttentionCut::kProjected; }

  // Whether there is a list for one token in which the product behind a half layer ends it: not
  // where there is no such product, or one that does not suit that.
  absl::StatusOr<bool> FitsSingle(bool chained) const {
    for (std::int32_t half = spec_.first_half + 1; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product product, InputProduct(half));
      TANDEM_ASSIGN_OR_RETURN(const Product output, OutputProduct(half));
      // What gate and up make is 8-bit, as what attention makes need not be.
      const bool fits = half % 2 == 0 || output.form(1) == ActivationForm::kQ8;
      if (!fits || !Streams(context_, product, {.geglu = half % 2 != 0, .chained = chained}))
        return false;
    }
    return spec_.last_half - spec_.first_half >= 2;
  }

  // Whether there is such a list of chained dispatches.
  absl::StatusOr<bool> FitsChain() const {
    if (context_.chain == nullptr || !context_.chain->usable()) return false;
    TANDEM_ASSIGN_OR_RETURN(const bool single, FitsSingle(/*chained=*/true));
    if (!single) return false;
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product output, OutputProduct(half));
      if (!StreamsPlain(context_, output)) return false;
    }
    return true;
  }

  // That list, chained where `chain_` is set.
  absl::Status Single(std::vector<Op>* ops) {
    ops_ = ops;
    if (spec_.embed) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* embedding, Find({TensorKind::kEmbedding, -1}));
      TANDEM_RETURN_IF_ERROR(rows_.AppendEmbed(*embedding, After(spec_.first_half), ops));
    }
    std::optional<StreamNorm> norm;
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product output, OutputProduct(half));
      TANDEM_RETURN_IF_ERROR(half % 2 == 0 ? SingleAttention(half, norm, output)
                                           : SingleFeedForward(half, norm, output));
      const TensorId id{half % 2 == 0 ? TensorKind::kPostAttentionNorm : TensorKind::kPostFfnNorm,
                        half / 2};
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(id));
      const ResidualRef residual = norm.has_value() ? norm->output : Before(half);
      if (half + 1 == spec_.last_half) {
        ops->push_back(rows_.PostNorm(TensorName(id), {memory_.branch.slice(), output}, *weight,
                                      residual, After(half + 1), std::nullopt, /*always=*/true));
        break;
      }
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* next_weight, Find(NormOf(half + 1)));
      // All workgroups read the one while the first writes the other.
      const bool other = (half - spec_.first_half) % 2 == 0;
      norm = StreamNorm{
          memory_.branch.slice(),
          weight->chunks.front().values,
          config_.rms_norm_eps,
          residual,
          {(other ? memory_.other_residual : memory_.residual).slice(), kernels::kBaseZero},
          next_weight->chunks.front().values};
    }
    return absl::OkStatus();
  }

  absl::Status SingleAttention(std::int32_t half, const std::optional<StreamNorm>& norm,
                               const Product& output) {
    TANDEM_ASSIGN_OR_RETURN(const VulkanKvCache* cache, Cache());
    TANDEM_ASSIGN_OR_RETURN(const Product qkv, InputProduct(half));
    if (norm.has_value()) {
      AppendLink(StreamOp(context_, qkv, memory_.step.slice(), *norm, memory_.qkv.slice(),
                          {.geglu = false, .chained = chain_ != nullptr}));
    } else {
      TANDEM_RETURN_IF_ERROR(FirstNorm(half));
      TANDEM_RETURN_IF_ERROR(Append(qkv, memory_.normed, memory_.qkv));
    }
    TANDEM_RETURN_IF_ERROR(AppendHeads(half / 2, *cache, qkv, output));
    return AppendOutput(output, memory_.attended);
  }

  absl::Status SingleFeedForward(std::int32_t half, const std::optional<StreamNorm>& norm,
                                 const Product& output) {
    TANDEM_ASSIGN_OR_RETURN(const Product gate_up, InputProduct(half));
    if (norm.has_value()) {
      AppendLink(StreamOp(context_, gate_up, memory_.step.slice(), *norm, memory_.activated.slice(),
                          {.geglu = true, .chained = chain_ != nullptr}));
    } else {
      TANDEM_RETURN_IF_ERROR(FirstNorm(half));
      TANDEM_RETURN_IF_ERROR(AppendGateUp(half, gate_up, output));
    }
    return AppendOutput(output, memory_.activated);
  }

  void AppendLink(Op op) {
    if (chain_ != nullptr) chain_->Link(&op);
    ops_->push_back(std::move(op));
  }

  // The product that makes what a half layer adds, in lists for one token.
  absl::Status AppendOutput(const Product& product, const vulkan::Buffer& input) {
    if (chain_ == nullptr) return Append(product, input, memory_.branch);
    AppendLink(PlainStreamOp(context_, product, memory_.step.slice(), input.slice(),
                             memory_.branch.slice()));
    return absl::OkStatus();
  }

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
    TANDEM_ASSIGN_OR_RETURN(const Product reader, InputProduct(half));
    ops_->push_back(rows_.Norm(TensorName(NormOf(half)), Before(half), *weight,
                               {memory_.normed.slice(), reader}, kernels::kRowsAreTokens));
    return absl::OkStatus();
  }

  absl::StatusOr<Product> MakeProduct(std::string name, std::vector<TensorId> ids,
                                      ProductOptions options) const {
    std::vector<const DeviceTensor*> matrices;
    for (const TensorId id : ids) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* matrix, Find(id));
      matrices.push_back(matrix);
    }
    options.activations = program_.activations;
    return Product::Create(context_, std::move(name), std::move(matrices), options);
  }

  // Of the products of a half the one that reads the normed residual, and the one that makes what
  // the half adds.
  absl::StatusOr<Product> InputProduct(std::int32_t half) const {
    const std::int32_t layer = half / 2;
    if (half % 2 == 0) {
      return MakeProduct(
          Cat("queries, keys and values of layer ", layer),
          {{TensorKind::kQuery, layer}, {TensorKind::kKey, layer}, {TensorKind::kValue, layer}},
          {.parts = true});
    }
    return MakeProduct(Cat("gate and up of layer ", layer),
                       {{TensorKind::kFfnGate, layer}, {TensorKind::kFfnUp, layer}}, {});
  }
  absl::StatusOr<Product> OutputProduct(std::int32_t half) const {
    if (half % 2 == 0) {
      const TensorId id{TensorKind::kAttentionOutput, half / 2};
      // Eight lanes round a group of 32 columns, all of one head.
      return MakeProduct(TensorName(id), {id},
                         {.parts = true, .no_q8 = config_.head_dim % kGroupSize != 0});
    }
    const TensorId id{TensorKind::kFfnDown, half / 2};
    return MakeProduct(TensorName(id), {id}, {.parts = true, .small_f16 = true});
  }

  // The product that makes what a half adds, and what follows it, in one dispatch or in two.
  absl::Status EndHalf(std::int32_t half, TensorKind kind, const Product& branch,
                       const vulkan::Buffer& input) {
    const TensorId id{kind, half / 2};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(id));
    Product::PostNormOf norm;
    norm.weight = weight->chunks.front().values;
    norm.epsilon = config_.rms_norm_eps;
    norm.input = Before(half);
    norm.output = After(half + 1);
    norm.counters = memory_.counters.slice();
    std::optional<RowOps::NextNorm> next;
    if (half + 1 < spec_.last_half) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* next_weight, Find(NormOf(half + 1)));
      TANDEM_ASSIGN_OR_RETURN(Product reader, InputProduct(half + 1));
      next.emplace(RowOps::NextNorm{*next_weight, {memory_.normed.slice(), std::move(reader)}});
      norm.next = &next->normed.product;
      norm.next_weight = next_weight->chunks.front().values;
      norm.normed = memory_.normed.slice();
    }
    TANDEM_RETURN_IF_ERROR(branch.AppendPostNorm(memory_.step.slice(), input.slice(),
                                                 memory_.branch.slice(), norm, ops_));
    ops_->push_back(rows_.PostNorm(TensorName(id), {memory_.branch.slice(), branch}, *weight,
                                   Before(half), After(half + 1), next));
    return absl::OkStatus();
  }

  absl::Status Append(const Product& product, const vulkan::Buffer& input,
                      const vulkan::Buffer& output) {
    return product.Append(memory_.step.slice(), input.slice(), output.slice(),
                          kernels::kRowsAreTokens, ops_);
  }

  absl::StatusOr<const VulkanKvCache*> Cache() const {
    const auto* cache = dynamic_cast<const VulkanKvCache*>(program_.kv_cache);
    if (cache == nullptr) {
      return absl::InvalidArgumentError("the KV cache was not made by this Vulkan device");
    }
    return cache;
  }

  absl::Status Attention(std::int32_t half) {
    TANDEM_ASSIGN_OR_RETURN(const VulkanKvCache* cache, Cache());
    if (Alone()) return AttentionAlone(half / 2, *cache);
    TANDEM_RETURN_IF_ERROR(FirstNorm(half));
    TANDEM_ASSIGN_OR_RETURN(const Product qkv, InputProduct(half));
    TANDEM_ASSIGN_OR_RETURN(const Product output, OutputProduct(half));
    TANDEM_RETURN_IF_ERROR(Append(qkv, memory_.normed, memory_.qkv));
    TANDEM_RETURN_IF_ERROR(AppendHeads(half / 2, *cache, qkv, output));
    return EndHalf(half, TensorKind::kPostAttentionNorm, output, memory_.attended);
  }

  // Queries are turned in place, which is no business of the ring that they come from.
  absl::Status AttentionAlone(std::int32_t layer, const VulkanKvCache& cache) {
    const ResidualRef projected{memory_.qkv.slice(), kernels::kBaseZero};
    const ResidualRef attended{memory_.attended.slice(), kernels::kBaseZero};
    ops_->push_back(rows_.CopyRows(Cat("projected rows of layer ", layer), input_, projected,
                                   static_cast<std::uint32_t>(ProjectedColumns(config_))));
    TANDEM_RETURN_IF_ERROR(AppendHeads(layer, cache, std::nullopt, std::nullopt));
    ops_->push_back(rows_.CopyRows(Cat("attended rows of layer ", layer), attended, output_,
                                   static_cast<std::uint32_t>(AttendedColumns(config_))));
    return absl::OkStatus();
  }

  // Without products attention stands alone.
  absl::Status AppendHeads(std::int32_t layer, const VulkanKvCache& cache,
                           const std::optional<Product>& qkv,
                           const std::optional<Product>& output) {
    const bool global = config_.layer_is_global[static_cast<std::size_t>(layer)];
    const VulkanKvCache::Layer& planes = cache.Find(layer);
    const RowOps::AttentionBuffers buffers{
        {memory_.qkv.slice(), qkv},
        planes.keys.slice(),
        planes.values.slice(),
        {memory_.attended.slice(), output},
        cache.spec().type,
        global ? 0 : static_cast<std::uint32_t>(config_.sliding_window)};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* query_norm, Find({TensorKind::kQueryNorm, layer}));
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* key_norm, Find({TensorKind::kKeyNorm, layer}));
    const vulkan::Buffer& frequencies =
        global ? memory_.global_frequencies : memory_.window_frequencies;
    if (decodes_) {
      const DecodeBuffers decode{memory_.step.slice(),
                                 buffers.qkv.slice,
                                 buffers.keys,
                                 buffers.values,
                                 buffers.attended.slice,
                                 query_norm->chunks.front().values,
                                 key_norm->chunks.front().values,
                                 frequencies.slice(),
                                 memory_.splits.slice(),
                                 memory_.counters.slice()};
      AppendLink(DecodeOp(context_, config_, Cat("attention of layer ", layer), decode, *qkv,
                          *output, buffers.type, buffers.window, chain_ != nullptr));
      return absl::OkStatus();
    }
    ops_->push_back(rows_.QkvRope(Cat("RoPE of layer ", layer), buffers, *query_norm, *key_norm,
                                  frequencies.slice()));
    ops_->push_back(rows_.Attention(Cat("attention of layer ", layer), buffers));
    ops_->push_back(rows_.TileAttention(Cat("attention of tiles of layer ", layer), buffers));
    return absl::OkStatus();
  }

  // Gate and up, and GeGLU of them.
  absl::Status AppendGateUp(std::int32_t half, const Product& gate_up, const Product& down) {
    TANDEM_RETURN_IF_ERROR(gate_up.AppendGeglu(memory_.step.slice(), memory_.normed.slice(),
                                               memory_.gate_up.slice(), memory_.activated.slice(),
                                               down, ops_));
    ops_->push_back(rows_.Geglu(Cat("GeGLU of layer ", half / 2),
                                {memory_.gate_up.slice(), gate_up},
                                {memory_.activated.slice(), down}));
    return absl::OkStatus();
  }

  absl::Status FeedForward(std::int32_t half) {
    TANDEM_RETURN_IF_ERROR(FirstNorm(half));
    TANDEM_ASSIGN_OR_RETURN(const Product gate_up, InputProduct(half));
    TANDEM_ASSIGN_OR_RETURN(const Product down, OutputProduct(half));
    TANDEM_RETURN_IF_ERROR(AppendGateUp(half, gate_up, down));
    return EndHalf(half, TensorKind::kPostFfnNorm, down, memory_.activated);
  }

  absl::Status Head(vulkan::BufferSlice logits, std::vector<Op>* ops) {
    const TensorId norm{TensorKind::kFinalNorm, -1};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(norm));
    TANDEM_ASSIGN_OR_RETURN(const Product head,
                            MakeProduct("head", {{TensorKind::kEmbedding, -1}}, {}));
    ops->push_back(rows_.Norm(TensorName(norm), Before(spec_.last_half), *weight,
                              {memory_.head_normed.slice(), head}, kernels::kRowsAreLogits));
    return head.Append(memory_.step.slice(), memory_.head_normed.slice(), logits,
                       kernels::kRowsAreLogits, ops);
  }

  absl::Status HiddenStates(vulkan::BufferSlice hidden_states) {
    const TensorId norm{TensorKind::kFinalNorm, -1};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, Find(norm));
    graph_->hidden_states.push_back(
        {rows_.PlainNorm("hidden states", Before(spec_.last_half), *weight, hidden_states)});
    return absl::OkStatus();
  }

  kernels::CandidatesParams BlocksOfRows() const {
    return {static_cast<std::uint32_t>(config_.vocab_size), memory_.sizes.logit_block,
            memory_.sizes.logit_blocks};
  }

  const DeviceContext& context_;
  const ModelConfig& config_;
  const ProgramSpec& program_;
  const ProgramStage& stage_;
  const StageSpec& spec_;
  const ProgramMemory& memory_;
  StageGraph* const graph_;
  const RowOps rows_;
  // The list that is being built, and whether it is for steps of one token a sequence.
  std::vector<Op>* ops_ = nullptr;
  bool decodes_ = false;
  // Null while lists with barriers are built.
  Chain* chain_ = nullptr;
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
