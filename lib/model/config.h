#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// The shape and constants of a Gemma 3 text model. Source: Hugging Face transformers'
// Gemma3TextConfig; docs/correctness.md says how each is used. Plain data; Validate() holds for
// every instance that readers return.
struct ModelConfig {
  std::string name;  // for people; the id that the OpenAI API shows
  std::int32_t vocab_size = 0;
  std::int32_t hidden_size = 0;
  std::int32_t ffn_size = 0;
  std::int32_t num_layers = 0;
  std::int32_t num_heads = 0;
  std::int32_t num_kv_heads = 0;   // divides num_heads
  std::int32_t head_dim = 0;       // num_heads * head_dim need not equal hidden_size
  std::int32_t max_positions = 0;  // longest context the model was trained for
  // a local layer's query at p sees keys in (p - window, p], or (p - window, p + window)
  std::int32_t sliding_window = 0;
  float rms_norm_eps = 1e-6f;
  float query_pre_attn_scalar = 0;  // q·k is scaled by 1/sqrt of it
  float rope_theta_global = 1e6f;
  float rope_theta_local = 1e4f;
  // linear scaling: positions are divided by it, global layers only
  float rope_factor_global = 1.0f;
  std::vector<bool> layer_is_global;  // num_layers long
  std::int32_t bos_id = 2;
  std::vector<std::int32_t> eos_ids = {
      1};  // any of them ends a generation (<end_of_turn> is added where the vocabulary has it)
  // An encoder (EmbeddingGemma): every token sees those behind it, too. So a sequence is computed
  // in one step, and its hidden states are all that is asked for.
  bool bidirectional = false;
  // Behind the mean of an encoder's hidden states stand two matrices without bias and activation,
  // hidden -> dense -> hidden; 0: none.
  std::int32_t dense_size = 0;

  bool operator==(const ModelConfig&) const = default;
};

// INVALID_ARGUMENT naming the field, what was expected and what was found.
absl::Status ValidateModelConfig(const ModelConfig& config);

// Reads a config.json: both spellings (rope_parameters/layer_types;
// rope_theta/rope_local_base_freq/rope_scaling/sliding_window_pattern), flat or nested under
// `text_config`, defaults of Gemma3TextConfig where a key is left out. `source` names the file in
// errors.
absl::StatusOr<ModelConfig> ParseConfigJson(std::string_view json, std::string_view source);

}  // namespace tandem
