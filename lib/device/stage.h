#pragma once

#include <cstdint>
#include <string>

#include "lib/model/kinds.h"

namespace tandem {

// What a stage computes: a run of half layers, perhaps with the embedding before and the head
// behind. Attention of layer i is half 2i, its feed-forward half is 2i + 1.
struct StageSpec {
  // Starts from tokens instead of an input residual; then first_half is 0.
  bool embed = false;
  // Half layers [first_half, last_half).
  std::int32_t first_half = 0;
  std::int32_t last_half = 0;
  // Ends with final norm and logits instead of an output residual; then last_half is
  // 2 * num_layers.
  bool head = false;
  bool operator==(const StageSpec&) const = default;

  // Whether an even half (attention), or an odd one, lies in the range.
  bool HasAttention() const { return (first_half + 1) / 2 * 2 < last_half; }
  bool HasFeedForward() const { return first_half / 2 < last_half / 2; }
};
// For people: "embed+attention 0+ffn 0", "layers 0-25+head".
std::string StageSpecName(const StageSpec& spec);

}  // namespace tandem
