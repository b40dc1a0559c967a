#pragma once

#include "lib/model/config.h"

namespace tandem {

// Two layers, every size different where Gemma 3 lets it be.
inline ModelConfig SmallConfig() {
  ModelConfig c;
  c.name = "small";
  c.vocab_size = 300;
  c.hidden_size = 96;
  c.ffn_size = 160;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 32;
  c.max_positions = 128;
  c.sliding_window = 16;
  c.query_pre_attn_scalar = 32;
  c.layer_is_global = {false, true};
  return c;
}

}  // namespace tandem
