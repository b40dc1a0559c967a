#include "gpu-worker/stage/stage_graph.h"

#include <algorithm>
#include <bit>
#include <cstddef>
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
#include "gpu-worker/stage/stage_parts.h"
#include "gpu-worker/stage/stream.h"
#include "gpu-worker/stage/vulkan_kv_cache.h"
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
               const ProgramStage& stage, const StageParts& parts, const ProgramMemory& memory,
               StageGraph* graph)
      : context_(context),
        config_(config),
        limits_(program.limits),
        spec_(stage.spec),
        parts_(parts),
        memory_(memory),
        graph_(graph),
        rows_(context, config, memory.step.slice()) {}

  absl::Status Build() {
    TANDEM_RETURN_IF_ERROR(Body(&graph_->body));
    if (spec_.HasAttention() && !Alone() && DecodesApart(context_, config_)) {
      decodes_ = true;
      TANDEM_RETURN_IF_ERROR(Body(&graph_->decode));
      TANDEM_ASSIGN_OR_RETURN(const bool single, FitsSingle(/*chained=*/false));
      if (single) TANDEM_RETURN_IF_ERROR(Single(&graph_->single));
      TANDEM_RETURN_IF_ERROR(Chained());
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
  // Attention between products that are made elsewhere.
  bool Alone() const { return spec_.begin == AttentionCut::kProjected; }

  // The lists of chained dispatches, as far as they are done here.
  absl::Status Chained() {
    if (context_.chain == nullptr || !context_.chain->usable()) return absl::OkStatus();
    Chain of_single(context_, memory_.chain_words.slice(), memory_.chain_report.slice());
    TANDEM_ASSIGN_OR_RETURN(const bool single, FitsChain());
    chain_ = &of_single;
    if (single) TANDEM_RETURN_IF_ERROR(Single(&graph_->chained));
    Chain of_few(context_, memory_.chain_words.slice(), memory_.chain_report.slice());
    TANDEM_ASSIGN_OR_RETURN(graph_->few_tokens, MostFewTokens());
    chain_ = &of_few;
    few_ = true;
    if (graph_->few_tokens > 1) TANDEM_RETURN_IF_ERROR(Body(&graph_->few));
    chain_ = nullptr;
    few_ = false;
    return absl::OkStatus();
  }

  // The largest bucket of steps of a few tokens whose dispatches are chained; under 2: none are.
  absl::StatusOr<std::uint32_t> MostFewTokens() const {
    const std::uint32_t most = std::min({std::bit_floor(context_.tuning.chain.most_tokens),
                                         kMostChainedTokens, DecodeBucket(limits_)});
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product input, parts_.InputProduct(half));
      TANDEM_ASSIGN_OR_RETURN(const Product output, parts_.OutputProduct(half));
      if (!input.Chains(2, most) || !output.Chains(2, most)) return 0;
      for (std::uint32_t bucket = 2; half % 2 != 0 && bucket <= most; bucket *= 2)
        if (!input.MakesGeglu(bucket, output)) return 0;
    }
    return most;
  }

  absl::Status Body(std::vector<Op>* ops) {
    ops_ = ops;
    if (spec_.embed) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* embedding,
                              parts_.Find({TensorKind::kEmbedding, -1}));
      TANDEM_RETURN_IF_ERROR(rows_.AppendEmbed(*embedding, parts_.After(spec_.first_half), ops));
    }
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_RETURN_IF_ERROR(half % 2 == 0 ? Attention(half) : FeedForward(half));
    }
    return absl::OkStatus();
  }

  // Whether there is a list for one token in which the product behind a half layer ends it: not
  // where there is no such product, or one that does not suit that.
  absl::StatusOr<bool> FitsSingle(bool chained) const {
    for (std::int32_t half = spec_.first_half + 1; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product product, parts_.InputProduct(half));
      TANDEM_ASSIGN_OR_RETURN(const Product output, parts_.OutputProduct(half));
      // What gate and up make is 8-bit, as what attention makes need not be.
      const bool fits = half % 2 == 0 || output.form(1) == ActivationForm::kQ8;
      if (!fits || !Streams(context_, product, {.geglu = half % 2 != 0, .chained = chained}))
        return false;
    }
    return spec_.last_half - spec_.first_half >= 2;
  }

  // Whether there is such a list of chained dispatches.
  absl::StatusOr<bool> FitsChain() const {
    TANDEM_ASSIGN_OR_RETURN(const bool single, FitsSingle(/*chained=*/true));
    if (!single) return false;
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product output, parts_.OutputProduct(half));
      if (!StreamsPlain(context_, output)) return false;
    }
    return true;
  }

  // That list, chained where `chain_` is set.
  absl::Status Single(std::vector<Op>* ops) {
    ops_ = ops;
    if (spec_.embed) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* embedding,
                              parts_.Find({TensorKind::kEmbedding, -1}));
      TANDEM_RETURN_IF_ERROR(rows_.AppendEmbed(*embedding, parts_.After(spec_.first_half), ops));
    }
    std::optional<StreamNorm> norm;
    for (std::int32_t half = spec_.first_half; half < spec_.last_half; ++half) {
      TANDEM_ASSIGN_OR_RETURN(const Product output, parts_.OutputProduct(half));
      TANDEM_RETURN_IF_ERROR(half % 2 == 0 ? SingleAttention(half, norm, output)
                                           : SingleFeedForward(half, norm, output));
      const TensorId id = StageParts::PostNormOf(half);
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, parts_.Find(id));
      const ResidualRef residual = norm.has_value() ? norm->output : parts_.Before(half);
      if (half + 1 == spec_.last_half) {
        ops->push_back(rows_.PostNorm(TensorName(id), {memory_.branch.slice(), output}, *weight,
                                      residual, parts_.After(half + 1), std::nullopt,
                                      {.always = true}));
        break;
      }
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* next_weight,
                              parts_.Find(StageParts::NormOf(half + 1)));
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
    TANDEM_ASSIGN_OR_RETURN(const VulkanKvCache* cache, parts_.Cache());
    TANDEM_ASSIGN_OR_RETURN(const Product qkv, parts_.InputProduct(half));
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
    TANDEM_ASSIGN_OR_RETURN(const Product gate_up, parts_.InputProduct(half));
    if (norm.has_value()) {
      AppendLink(StreamOp(context_, gate_up, memory_.step.slice(), *norm, memory_.activated.slice(),
                          {.geglu = true, .chained = chain_ != nullptr}));
    } else {
      TANDEM_RETURN_IF_ERROR(FirstNorm(half));
      TANDEM_RETURN_IF_ERROR(AppendGateUp(half, gate_up, output));
    }
    return AppendOutput(output, memory_.activated);
  }

  void AppendLink(Op op, ChainPlace place = ChainPlace::kOther) {
    if (chain_ != nullptr) chain_->Link(&op, place);
    ops_->push_back(std::move(op));
  }

  // The product that makes what a half layer adds, in lists for one token.
  absl::Status AppendOutput(const Product& product, const vulkan::Buffer& input) {
    if (chain_ == nullptr) return Append(product, input, memory_.branch);
    AppendLink(PlainStreamOp(context_, product, memory_.step.slice(), input.slice(),
                             memory_.branch.slice()));
    return absl::OkStatus();
  }

  // The norm in front of a half; later halves get theirs from the post-norm before them.
  absl::Status FirstNorm(std::int32_t half) {
    if (half != spec_.first_half) return absl::OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, parts_.Find(StageParts::NormOf(half)));
    TANDEM_ASSIGN_OR_RETURN(const Product reader, parts_.InputProduct(half));
    ops_->push_back(rows_.Norm(TensorName(StageParts::NormOf(half)), parts_.Before(half), *weight,
                               {memory_.normed.slice(), reader}, kernels::kRowsAreTokens));
    return absl::OkStatus();
  }

  // The product that makes what a half adds, and what follows it, in one dispatch or in two.
  absl::Status EndHalf(std::int32_t half, const Product& branch, const vulkan::Buffer& input) {
    const TensorId id = StageParts::PostNormOf(half);
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, parts_.Find(id));
    Product::PostNormOf norm;
    norm.weight = weight->chunks.front().values;
    norm.epsilon = config_.rms_norm_eps;
    norm.input = parts_.Before(half);
    norm.output = parts_.After(half + 1);
    norm.counters = memory_.counters.slice();
    std::optional<RowOps::NextNorm> next;
    if (half + 1 < spec_.last_half) {
      TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* next_weight,
                              parts_.Find(StageParts::NormOf(half + 1)));
      TANDEM_ASSIGN_OR_RETURN(Product reader, parts_.InputProduct(half + 1));
      next.emplace(RowOps::NextNorm{*next_weight, {memory_.normed.slice(), std::move(reader)}});
      norm.next = &next->normed.product;
      norm.next_weight = next_weight->chunks.front().values;
      norm.normed = memory_.normed.slice();
    }
    Op post_norm = rows_.PostNorm(TensorName(id), {memory_.branch.slice(), branch}, *weight,
                                  norm.input, norm.output, next, {.chained = few_});
    if (few_) {
      const bool attention = half % 2 == 0;
      TANDEM_RETURN_IF_ERROR(Append(branch, input, memory_.branch,
                                    attention ? ChainPlace::kOutput : ChainPlace::kDown));
      AppendLink(std::move(post_norm),
                 attention ? ChainPlace::kPostAttentionNorm : ChainPlace::kPostFfnNorm);
      return absl::OkStatus();
    }
    TANDEM_RETURN_IF_ERROR(branch.AppendPostNorm(memory_.step.slice(), input.slice(),
                                                 memory_.branch.slice(), norm, ops_));
    ops_->push_back(std::move(post_norm));
    return absl::OkStatus();
  }

  absl::Status Append(const Product& product, const vulkan::Buffer& input,
                      const vulkan::Buffer& output, ChainPlace place = ChainPlace::kOther) {
    const std::size_t first = ops_->size();
    TANDEM_RETURN_IF_ERROR(product.Append(memory_.step.slice(), input.slice(), output.slice(),
                                          kernels::kRowsAreTokens, ops_));
    LinkFrom(first, place);
    return absl::OkStatus();
  }

  // Where products are chained, links the ops from `first` on.
  void LinkFrom(std::size_t first, ChainPlace place) {
    for (std::size_t i = first; few_ && i < ops_->size(); ++i) chain_->Link(&(*ops_)[i], place);
  }

  absl::Status Attention(std::int32_t half) {
    TANDEM_ASSIGN_OR_RETURN(const VulkanKvCache* cache, parts_.Cache());
    if (Alone()) return AttentionAlone(half / 2, *cache);
    TANDEM_RETURN_IF_ERROR(FirstNorm(half));
    TANDEM_ASSIGN_OR_RETURN(const Product qkv, parts_.InputProduct(half, few_));
    TANDEM_ASSIGN_OR_RETURN(const Product output, parts_.OutputProduct(half, few_));
    TANDEM_RETURN_IF_ERROR(Append(qkv, memory_.normed, memory_.qkv, ChainPlace::kQkv));
    TANDEM_RETURN_IF_ERROR(AppendHeads(half / 2, *cache, qkv, output));
    return EndHalf(half, output, memory_.attended);
  }

  // Queries are turned in place, which is no business of the ring that they come from.
  absl::Status AttentionAlone(std::int32_t layer, const VulkanKvCache& cache) {
    const ResidualRef projected{memory_.qkv.slice(), kernels::kBaseZero};
    const ResidualRef attended{memory_.attended.slice(), kernels::kBaseZero};
    ops_->push_back(rows_.CopyRows(Cat("projected rows of layer ", layer), parts_.input(),
                                   projected,
                                   static_cast<std::uint32_t>(ProjectedColumns(config_))));
    TANDEM_RETURN_IF_ERROR(AppendHeads(layer, cache, std::nullopt, std::nullopt));
    ops_->push_back(rows_.CopyRows(Cat("attended rows of layer ", layer), attended, parts_.output(),
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
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* query_norm,
                            parts_.Find({TensorKind::kQueryNorm, layer}));
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* key_norm,
                            parts_.Find({TensorKind::kKeyNorm, layer}));
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
                          *output, buffers.type, buffers.window, chain_ != nullptr),
                 ChainPlace::kAttention);
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
    const std::size_t first = ops_->size();
    TANDEM_RETURN_IF_ERROR(gate_up.AppendGeglu(memory_.step.slice(), memory_.normed.slice(),
                                               memory_.gate_up.slice(), memory_.activated.slice(),
                                               down, ops_));
    LinkFrom(first, gate_up.format() == WeightFormat::kInt8 ? ChainPlace::kGateUpInt8
                                                            : ChainPlace::kGateUp);
    // Products that are chained make it themselves.
    if (few_) return absl::OkStatus();
    ops_->push_back(rows_.Geglu(Cat("GeGLU of layer ", half / 2),
                                {memory_.gate_up.slice(), gate_up},
                                {memory_.activated.slice(), down}));
    return absl::OkStatus();
  }

  absl::Status FeedForward(std::int32_t half) {
    TANDEM_RETURN_IF_ERROR(FirstNorm(half));
    TANDEM_ASSIGN_OR_RETURN(const Product gate_up, parts_.InputProduct(half, few_));
    TANDEM_ASSIGN_OR_RETURN(const Product down, parts_.OutputProduct(half, few_));
    TANDEM_RETURN_IF_ERROR(AppendGateUp(half, gate_up, down));
    return EndHalf(half, down, memory_.activated);
  }

  absl::Status Head(vulkan::BufferSlice logits, std::vector<Op>* ops) {
    const TensorId norm{TensorKind::kFinalNorm, -1};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, parts_.Find(norm));
    TANDEM_ASSIGN_OR_RETURN(const Product head, parts_.HeadProduct());
    ops->push_back(rows_.Norm(TensorName(norm), parts_.Before(spec_.last_half), *weight,
                              {memory_.head_normed.slice(), head}, kernels::kRowsAreLogits));
    return head.Append(memory_.step.slice(), memory_.head_normed.slice(), logits,
                       kernels::kRowsAreLogits, ops);
  }

  absl::Status HiddenStates(vulkan::BufferSlice hidden_states) {
    const TensorId norm{TensorKind::kFinalNorm, -1};
    TANDEM_ASSIGN_OR_RETURN(const DeviceTensor* weight, parts_.Find(norm));
    graph_->hidden_states.push_back(
        {rows_.PlainNorm("hidden states", parts_.Before(spec_.last_half), *weight, hidden_states)});
    return absl::OkStatus();
  }

  kernels::CandidatesParams BlocksOfRows() const {
    return {static_cast<std::uint32_t>(config_.vocab_size), memory_.sizes.logit_block,
            memory_.sizes.logit_blocks};
  }

  const DeviceContext& context_;
  const ModelConfig& config_;
  const StepLimits& limits_;
  const StageSpec& spec_;
  const StageParts& parts_;
  const ProgramMemory& memory_;
  StageGraph* const graph_;
  const RowOps rows_;
  // The list that is being built, and whether it is for steps of one token a sequence.
  std::vector<Op>* ops_ = nullptr;
  bool decodes_ = false;
  // Null while lists with barriers are built.
  Chain* chain_ = nullptr;
  // Whether all products of the list are chained, too.
  bool few_ = false;
};

}  // namespace

std::uint32_t DecodeBucket(const StepLimits& limits) {
  return std::bit_ceil(
      static_cast<std::uint32_t>(std::min(limits.max_tokens, limits.max_sequences)));
}

absl::StatusOr<StageGraph> BuildStageGraph(const DeviceContext& context, const ModelConfig& config,
                                           const ProgramSpec& program, const ProgramStage& stage,
                                           const ProgramMemory& memory) {
  TANDEM_RETURN_IF_ERROR(CheckSupported(config, program, stage.spec));
  StageGraph graph;
  TANDEM_ASSIGN_OR_RETURN(const StageParts parts,
                          StageParts::Create(context, config, program, stage, memory));
  TANDEM_RETURN_IF_ERROR(
      GraphBuilder(context, config, program, stage, parts, memory, &graph).Build());
  return graph;
}

}  // namespace tandem
