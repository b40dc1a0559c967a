#pragma once

#include <cstdint>
#include <string>

#include "lib/model/kinds.h"

namespace tandem {

struct ModelConfig;

// Where a stage cuts through an attention half, so that one device multiplies and another attends.
enum class AttentionCut : std::uint8_t {
  kNone,
  // Behind the products of queries, keys and values: rows hold these, (heads + 2 * kv_heads) *
  // head_dim values.
  kProjected,
  // Behind attention, in front of the output's product: rows hold heads * head_dim values.
  kAttended,
};

// What a stage computes: a run of half layers, perhaps with the embedding before and the head
// behind. Attention of layer i is half 2i, its feed-forward half is 2i + 1.
//
// An attention half may be cut into three stages: one that ends at kProjected, one that begins
// there and ends at kAttended, one that begins there. The first and the last may have more halves
// and belong to one program: between them the residual stays in the program's context.
struct StageSpec {
  // Starts from tokens instead of an input residual; then first_half is 0.
  bool embed = false;
  // Half layers [first_half, last_half).
  std::int32_t first_half = 0;
  std::int32_t last_half = 0;
  // Ends with final norm and logits instead of an output residual; then last_half is
  // 2 * num_layers.
  bool head = false;
  // Where it begins in half first_half, and ends in half last_half - 1.
  AttentionCut begin = AttentionCut::kNone;
  AttentionCut end = AttentionCut::kNone;
  bool operator==(const StageSpec&) const = default;

  // What it does of attention half `half`, which lies in the range: the products of queries, keys
  // and values; attention itself, with the cache; and the output's product.
  bool Projects(std::int32_t half) const {
    return half != first_half || begin == AttentionCut::kNone;
  }
  bool Attends(std::int32_t half) const {
    return (half != first_half || begin != AttentionCut::kAttended) &&
           (half + 1 != last_half || end != AttentionCut::kProjected);
  }
  bool Outputs(std::int32_t half) const {
    return half + 1 != last_half || end == AttentionCut::kNone;
  }
  // Whether an even half (attention), or an odd one, lies in the range.
  bool HasAttentionHalf() const { return (first_half + 1) / 2 * 2 < last_half; }
  bool HasFeedForward() const { return first_half / 2 < last_half / 2; }
  // Whether it attends, and so needs a cache.
  bool HasAttention() const;
  // Whether the residual comes from, or goes to, the context.
  bool KeepsResidual() const {
    return begin == AttentionCut::kAttended || end == AttentionCut::kProjected;
  }
};
// Values of a row of its input, and of its output.
std::int32_t InputColumns(const ModelConfig& config, const StageSpec& spec);
std::int32_t OutputColumns(const ModelConfig& config, const StageSpec& spec);
// For people: "embed+attention 0+ffn 0", "layers 0-25+head".
std::string StageSpecName(const StageSpec& spec);

}  // namespace tandem
