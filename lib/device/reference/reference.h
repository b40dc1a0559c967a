#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/weights/region.h"

namespace tandem {

// The slow, obvious twin of every device: Gemma 3 as Hugging Face transformers' Gemma3ForCausalLM
// computes it in float32 (or Gemma3TextModel, with attention in both directions), over a whole
// sequence at once, without a cache. Weights are dequantised to float32; sums are taken in double.
// Single-threaded, immutable after Make.
class ReferenceModel {
 public:
  // `regions`: all regions of the model, any order. INVALID_ARGUMENT names a tensor that is
  // missing.
  static absl::StatusOr<ReferenceModel> Make(
      const ModelConfig& config, const std::vector<std::shared_ptr<const Region>>& regions);

  const ModelConfig& config() const { return config_; }

  // Token embeddings times sqrt(hidden): (tokens, hidden).
  std::vector<float> Embed(std::span<const std::int32_t> tokens) const;
  // Runs half layers [first_half, last_half) over `residual` (tokens, hidden), the tokens standing
  // at positions 0, 1, ...
  void RunHalves(std::int32_t first_half, std::int32_t last_half,
                 std::vector<float>* residual) const;
  // Attention of a layer in three parts. Rows of queries, keys and values of the residual, (tokens,
  // ProjectedColumns); what attention makes of these, (tokens, AttendedColumns); and the residual
  // with that added.
  std::vector<float> Project(std::int32_t layer, std::span<const float> residual) const;
  std::vector<float> Attend(std::int32_t layer, std::span<const float> projected) const;
  void Output(std::int32_t layer, std::span<const float> attended,
              std::vector<float>* residual) const;
  // The tied head alone, of hidden states: (tokens, vocab).
  std::vector<float> Unembed(std::span<const float> hidden_states) const;
  // Final norm and tied head: (tokens, vocab).
  std::vector<float> Head(std::span<const float> residual) const;
  // Behind the final norm, of every position: (tokens, hidden).
  std::vector<float> HiddenStates(std::span<const std::int32_t> tokens) const;
  // Their mean, through the dense matrices where there are some: (hidden).
  std::vector<float> Embedding(std::span<const std::int32_t> tokens) const;
  // Logits of every position: (tokens, vocab).
  std::vector<float> Logits(std::span<const std::int32_t> tokens) const;

 private:
  struct Matrix {
    TensorShape shape;
    std::vector<float> values;
  };
  ReferenceModel() = default;
  const Matrix& Get(TensorKind kind, std::int32_t layer = -1) const;
  void FeedForward(std::int32_t layer, std::vector<float>* residual) const;
  std::vector<float> Weigh(std::int32_t layer, const std::vector<float>& queries,
                           const std::vector<float>& keys, const std::vector<float>& values) const;

  ModelConfig config_;
  std::map<std::pair<TensorKind, std::int32_t>, Matrix> tensors_;
};

}  // namespace tandem
