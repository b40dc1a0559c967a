#include "lib/model/gemma3_shapes.h"

#include <string>

#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::int32_t kVocabulary = 262144;
// Every sixth layer sees the whole context.
constexpr std::int32_t kGlobalEvery = 6;

struct Shape {
  std::string_view name;
  std::int32_t layers, hidden, ffn, heads, kv_heads, head_dim, window, positions;
  float attention_scalar, rope_factor;
};
constexpr Shape kShapes[] = {{"1b", 26, 1152, 6912, 4, 1, 256, 512, 32768, 256, 1},
                             {"4b", 34, 2560, 10240, 8, 4, 256, 1024, 131072, 256, 8},
                             {"12b", 48, 3840, 15360, 16, 8, 256, 1024, 131072, 256, 8},
                             {"27b", 62, 5376, 21504, 32, 16, 128, 1024, 131072, 168, 8}};

}  // namespace

absl::StatusOr<ModelConfig> Gemma3Shape(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name != name) continue;
    ModelConfig config;
    config.name = std::string(name);
    config.vocab_size = kVocabulary;
    config.hidden_size = shape.hidden;
    config.ffn_size = shape.ffn;
    config.num_layers = shape.layers;
    config.num_heads = shape.heads;
    config.num_kv_heads = shape.kv_heads;
    config.head_dim = shape.head_dim;
    config.max_positions = shape.positions;
    config.sliding_window = shape.window;
    config.query_pre_attn_scalar = shape.attention_scalar;
    config.rope_factor_global = shape.rope_factor;
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
      config.layer_is_global.push_back((layer + 1) % kGlobalEvery == 0);
    return config;
  }
  return absl::InvalidArgumentError(
      Cat("expected the shape 1b, 4b, 12b or 27b, found '", name, "'"));
}

}  // namespace tandem
