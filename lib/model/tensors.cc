#include "lib/model/tensors.h"

#include <cstddef>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

struct KindInfo {
  TensorKind kind;
  WeightPart part;
  bool per_layer;
  bool matrix;
  const char* name;          // after "layers.N." where per_layer
  const char* hugging_face;  // after "model.layers.N." where per_layer; without ".weight"
  const char* gguf;          // after "blk.N." where per_layer; without ".weight"
};

// In the order of TensorKind, which is the order in a region.
constexpr std::array<KindInfo, kNumTensorKinds> kKinds = {{
    {TensorKind::kEmbedding, WeightPart::kEmbedding, false, true, "embedding", "model.embed_tokens",
     "token_embd"},
    {TensorKind::kFinalNorm, WeightPart::kEmbedding, false, false, "final_norm", "model.norm",
     "output_norm"},
    {TensorKind::kAttentionNorm, WeightPart::kAttention, true, false, "attention.norm",
     "input_layernorm", "attn_norm"},
    {TensorKind::kQuery, WeightPart::kAttention, true, true, "attention.query", "self_attn.q_proj",
     "attn_q"},
    {TensorKind::kKey, WeightPart::kAttention, true, true, "attention.key", "self_attn.k_proj",
     "attn_k"},
    {TensorKind::kValue, WeightPart::kAttention, true, true, "attention.value", "self_attn.v_proj",
     "attn_v"},
    {TensorKind::kQueryNorm, WeightPart::kAttention, true, false, "attention.query_norm",
     "self_attn.q_norm", "attn_q_norm"},
    {TensorKind::kKeyNorm, WeightPart::kAttention, true, false, "attention.key_norm",
     "self_attn.k_norm", "attn_k_norm"},
    {TensorKind::kAttentionOutput, WeightPart::kAttention, true, true, "attention.output",
     "self_attn.o_proj", "attn_output"},
    {TensorKind::kPostAttentionNorm, WeightPart::kAttention, true, false, "attention.post_norm",
     "post_attention_layernorm", "post_attention_norm"},
    {TensorKind::kFfnNorm, WeightPart::kFfn, true, false, "ffn.norm", "pre_feedforward_layernorm",
     "ffn_norm"},
    {TensorKind::kFfnGate, WeightPart::kFfn, true, true, "ffn.gate", "mlp.gate_proj", "ffn_gate"},
    {TensorKind::kFfnUp, WeightPart::kFfn, true, true, "ffn.up", "mlp.up_proj", "ffn_up"},
    {TensorKind::kFfnDown, WeightPart::kFfn, true, true, "ffn.down", "mlp.down_proj", "ffn_down"},
    {TensorKind::kPostFfnNorm, WeightPart::kFfn, true, false, "ffn.post_norm",
     "post_feedforward_layernorm", "post_ffw_norm"},
    {TensorKind::kDenseUp, WeightPart::kEmbedding, false, true, "dense_up", "2_Dense/linear",
     "dense_2"},
    {TensorKind::kDenseDown, WeightPart::kEmbedding, false, true, "dense_down", "3_Dense/linear",
     "dense_3"},
}};

bool IsDense(TensorKind kind) {
  return kind == TensorKind::kDenseUp || kind == TensorKind::kDenseDown;
}

const KindInfo& InfoOf(TensorKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  TANDEM_CHECK(index < kKinds.size());
  const KindInfo& info = kKinds[index];
  TANDEM_CHECK(info.kind == kind);
  return info;
}

constexpr std::string_view kLayersPrefix = "layers.";

}  // namespace

bool IsPerLayer(TensorKind kind) { return InfoOf(kind).per_layer; }
bool IsMatrix(TensorKind kind) { return InfoOf(kind).matrix; }
WeightPart PartOf(TensorKind kind) { return InfoOf(kind).part; }

TensorShape ShapeOf(const ModelConfig& c, TensorKind kind) {
  const std::int64_t query_width = std::int64_t{c.num_heads} * c.head_dim;
  const std::int64_t kv_width = std::int64_t{c.num_kv_heads} * c.head_dim;
  switch (kind) {
    case TensorKind::kEmbedding:
      return {c.vocab_size, c.hidden_size};
    case TensorKind::kQuery:
      return {query_width, c.hidden_size};
    case TensorKind::kKey:
    case TensorKind::kValue:
      return {kv_width, c.hidden_size};
    case TensorKind::kAttentionOutput:
      return {c.hidden_size, query_width};
    case TensorKind::kFfnGate:
    case TensorKind::kFfnUp:
      return {c.ffn_size, c.hidden_size};
    case TensorKind::kFfnDown:
      return {c.hidden_size, c.ffn_size};
    case TensorKind::kDenseUp:
      return {c.dense_size, c.hidden_size};
    case TensorKind::kDenseDown:
      return {c.hidden_size, c.dense_size};
    case TensorKind::kQueryNorm:
    case TensorKind::kKeyNorm:
      return {1, c.head_dim};
    case TensorKind::kFinalNorm:
    case TensorKind::kAttentionNorm:
    case TensorKind::kPostAttentionNorm:
    case TensorKind::kFfnNorm:
    case TensorKind::kPostFfnNorm:
      return {1, c.hidden_size};
  }
  TANDEM_CHECK(false);
}

std::vector<TensorId> TensorsOf(const ModelConfig& config, WeightPart part, std::int32_t layer) {
  TANDEM_CHECK(part == WeightPart::kEmbedding || (layer >= 0 && layer < config.num_layers));
  std::vector<TensorId> ids;
  for (const KindInfo& info : kKinds) {
    if (info.part != part || (IsDense(info.kind) && config.dense_size == 0)) continue;
    ids.push_back({info.kind, info.per_layer ? layer : -1});
  }
  return ids;
}

std::vector<TensorId> AllTensors(const ModelConfig& config) {
  std::vector<TensorId> ids = TensorsOf(config, WeightPart::kEmbedding, -1);
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const WeightPart part : {WeightPart::kAttention, WeightPart::kFfn}) {
      const std::vector<TensorId> more = TensorsOf(config, part, layer);
      ids.insert(ids.end(), more.begin(), more.end());
    }
  }
  return ids;
}

std::string TensorName(TensorId id) {
  const KindInfo& info = InfoOf(id.kind);
  if (!info.per_layer) return info.name;
  return absl::StrCat(AbslView(kLayersPrefix), id.layer, ".", info.name);
}

std::optional<TensorId> ParseTensorName(std::string_view name) {
  for (const KindInfo& info : kKinds) {
    if (!info.per_layer && name == info.name) return TensorId{info.kind, -1};
  }
  if (!name.starts_with(kLayersPrefix)) return std::nullopt;
  name.remove_prefix(kLayersPrefix.size());
  const std::size_t dot = name.find('.');
  std::int32_t layer = 0;
  if (dot == std::string_view::npos || !absl::SimpleAtoi(AbslView(name.substr(0, dot)), &layer) ||
      layer < 0)
    return std::nullopt;
  // One spelling only: no "+3", " 3" or "03".
  if (absl::StrCat(layer) != name.substr(0, dot)) return std::nullopt;
  for (const KindInfo& info : kKinds) {
    if (info.per_layer && name.substr(dot + 1) == info.name) return TensorId{info.kind, layer};
  }
  return std::nullopt;
}

std::string HuggingFaceName(TensorId id) {
  const KindInfo& info = InfoOf(id.kind);
  if (!info.per_layer) return absl::StrCat(info.hugging_face, ".weight");
  return absl::StrCat("model.layers.", id.layer, ".", info.hugging_face, ".weight");
}

std::string GgufName(TensorId id) {
  const KindInfo& info = InfoOf(id.kind);
  if (!info.per_layer) return absl::StrCat(info.gguf, ".weight");
  return absl::StrCat("blk.", id.layer, ".", info.gguf, ".weight");
}

std::string RegionName(WeightPart part, std::int32_t layer) {
  switch (part) {
    case WeightPart::kEmbedding:
      return "embedding";
    case WeightPart::kAttention:
      return absl::StrCat("layer.", layer, ".attention");
    case WeightPart::kFfn:
      return absl::StrCat("layer.", layer, ".ffn");
  }
  TANDEM_CHECK(false);
}

}  // namespace tandem
