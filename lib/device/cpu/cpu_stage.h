#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_products.h"
#include "lib/device/cpu/kernels.h"
#include "lib/device/device.h"
#include "lib/device/validate.h"

namespace tandem {

// A step copied out of the caller's spans, in memory of a fixed size: what a context holds.
class CpuStepCopy {
 public:
  explicit CpuStepCopy(const StepRules& rules);
  // Of a valid step. Allocates nothing.
  void Assign(const Step& step);

  struct Token {
    std::int32_t id = 0;
    std::int32_t position = 0;
    std::int32_t sequence = 0;
    // The last position of the sequence in this step.
    std::int32_t last = 0;
  };
  std::span<const Token> tokens() const { return tokens_; }
  std::span<const std::int32_t> logit_rows() const { return logit_rows_; }
  bool hidden_states() const { return hidden_states_; }
  const std::int32_t* blocks(std::int32_t sequence, bool global) const {
    return (global ? global_ : window_).data() + static_cast<std::size_t>(sequence) * table_size_;
  }
  std::uint64_t bytes() const;

 private:
  std::size_t table_size_;
  std::vector<Token> tokens_;
  std::vector<std::int32_t> logit_rows_;
  bool hidden_states_ = false;
  // (max_sequences, table_size_); empty where no stage of the program looks at them.
  std::vector<std::int32_t> global_;
  std::vector<std::int32_t> window_;
};

// The last position that a token's query sees.
inline std::int32_t LastSeen(const ModelConfig& config, const CpuStepCopy::Token& token,
                             bool global) {
  if (!config.bidirectional) return token.position;
  return global ? token.last : std::min(token.last, token.position + config.sliding_window - 1);
}

// A stage resolved to pointers: what Compile works out once.

// What the stage does not do of a half that is cut stays null.
struct CpuAttentionHalf {
  std::int32_t layer = 0;
  bool global = false;
  bool projects = true;
  bool attends = true;
  bool outputs = true;
  // (hidden)
  const float* norm = nullptr;
  const float* post_norm = nullptr;
  // (head_dim)
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  MatrixView query, key, value, output;
  CpuKvCache::Layer cache;
};

struct CpuFfnHalf {
  // (hidden)
  const float* norm = nullptr;
  const float* post_norm = nullptr;
  MatrixView gate, up, down;
};

struct CpuStage {
  StageSpec spec;
  // Null where the stage embeds, or is the head.
  const CpuResidual* input = nullptr;
  const CpuResidual* output = nullptr;
  // Floats of a row of each.
  std::size_t input_columns = 0;
  std::size_t output_columns = 0;
  // The halves of each kind, in order; they take turns from the stage's first half on.
  std::vector<CpuAttentionHalf> attention;
  std::vector<CpuFfnHalf> ffn;
  // Where the stage embeds or is the head.
  MatrixView embedding;
  // (hidden), where it is the head.
  const float* final_norm = nullptr;
  float embedding_scale = 0;
  float query_scale = 0;
  // Radians a position, (head_dim / 2); empty where no layer of the kind is in the stage.
  std::vector<float> local_frequencies;
  std::vector<float> global_frequencies;
  KvType kv_type = KvType::kFloat32;
  ActivationType activations = ActivationType::kFloat32;
};

// Of a program that ValidateCompile accepted. UNIMPLEMENTED names what the CPU device does not do.
absl::StatusOr<CpuStage> MakeCpuStage(const ModelConfig& config, const ProgramSpec& program,
                                      const ProgramStage& stage);
// Has `unit` made ready for every matrix that the stage multiplies by, and adds each group of them
// to `prepared`.
absl::Status PrepareProducts(const CpuStage& stage, std::int32_t max_tokens,
                             std::int32_t max_logit_rows, ProductUnit* unit,
                             std::vector<std::vector<MatrixView>>* prepared);
// What the stages of a program need to work in.
CpuScratchSizes ScratchSizesOf(const ModelConfig& config, const ProgramSpec& program);

// What all stages of a program work in; one of them runs at a time.
struct CpuWorkspace {
  CpuWorkspace(ThreadPool* pool, ProductUnit* unit, CpuPartTimes* times)
      : products(pool, unit, times, &scratch) {}
  CpuScratch scratch;
  CpuProducts products;
};

// What a stage reads and writes; null where it has none.
struct CpuStageRows {
  // (tokens, columns).
  const float* input = nullptr;
  float* output = nullptr;
  // (tokens, hidden): the residual while a cut attention half is computed elsewhere.
  float* kept = nullptr;
  // (logit_rows, vocab).
  float* logits = nullptr;
  // (tokens, hidden); written where the step asks for it.
  float* hidden_states = nullptr;
};

// Runs a stage. Returns early where work->products is cancelled. Allocates nothing.
void RunCpuStage(const ModelConfig& config, const CpuStage& stage, const CpuStepCopy& step,
                 const CpuStageRows& rows, CpuWorkspace* work);

}  // namespace tandem
