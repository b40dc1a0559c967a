#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/model/config.h"

namespace tandem {

// Every tensor of a Gemma 3 text model, its shape and what it is called in each file format: the
// one list that readers, packers and devices share.

enum class TensorKind : std::uint8_t {
  kEmbedding,          // (vocab, hidden); the output head is the same tensor
  kFinalNorm,          // (hidden)
  kAttentionNorm,      // (hidden)            input_layernorm
  kQuery,              // (heads * head_dim, hidden)
  kKey,                // (kv_heads * head_dim, hidden)
  kValue,              // (kv_heads * head_dim, hidden)
  kQueryNorm,          // (head_dim)
  kKeyNorm,            // (head_dim)
  kAttentionOutput,    // (hidden, heads * head_dim)
  kPostAttentionNorm,  // (hidden)
  kFfnNorm,            // (hidden)            pre_feedforward_layernorm
  kFfnGate,            // (ffn, hidden)
  kFfnUp,              // (ffn, hidden)
  kFfnDown,            // (hidden, ffn)
  kPostFfnNorm,        // (hidden)
  // Where the configuration has a dense_size.
  kDenseUp,    // (dense, hidden)
  kDenseDown,  // (hidden, dense)
};
inline constexpr int kNumTensorKinds = 17;

// Which half of the model a tensor belongs to; a region of weights holds one half of one layer, or
// the embedding.
enum class WeightPart : std::uint8_t { kEmbedding, kAttention, kFfn };

struct TensorId {
  TensorKind kind;
  std::int32_t layer = -1;  // -1 where the kind has no layer
  bool operator==(const TensorId&) const = default;
};

struct TensorShape {
  std::int64_t rows = 0;  // output dimension; 1 for a vector
  std::int64_t cols = 0;  // input dimension, contiguous
  bool operator==(const TensorShape&) const = default;
};

bool IsPerLayer(TensorKind kind);
bool IsMatrix(TensorKind kind);  // matrices are quantised; vectors stay float32
WeightPart PartOf(TensorKind kind);
TensorShape ShapeOf(const ModelConfig& config, TensorKind kind);
std::vector<TensorId> AllTensors(const ModelConfig& config);  // in file order
std::vector<TensorId> TensorsOf(const ModelConfig& config, WeightPart part, std::int32_t layer);

// "layers.3.attention.query", "embedding": the name used in manifests, logs and errors.
std::string TensorName(TensorId id);
std::optional<TensorId> ParseTensorName(std::string_view name);
// "model.layers.3.self_attn.q_proj.weight" (without a language_model. prefix); the dense matrices lie
// in files of their own, named as folder and tensor: "2_Dense/linear.weight".
std::string HuggingFaceName(TensorId id);
// "blk.3.attn_q.weight"
std::string GgufName(TensorId id);

// Region names: "embedding", "layer.3.attention", "layer.3.ffn".
std::string RegionName(WeightPart part, std::int32_t layer);

}  // namespace tandem
