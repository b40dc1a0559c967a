#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/cpu/cpu_memory.h"
#include "lib/device/cpu/cpu_products.h"
#include "lib/device/cpu/kernels.h"
#include "lib/device/device.h"

namespace tandem {

// A stage resolved to pointers: what Compile works out once.

struct CpuAttentionHalf {
  std::int32_t layer = 0;
  bool global = false;
  const float* norm = nullptr;        // (hidden)
  const float* query_norm = nullptr;  // (head_dim)
  const float* key_norm = nullptr;    // (head_dim)
  const float* post_norm = nullptr;   // (hidden)
  MatrixView query, key, value, output;
  CpuKvCache::Layer cache;
};

struct CpuFfnHalf {
  const float* norm = nullptr;       // (hidden)
  const float* post_norm = nullptr;  // (hidden)
  MatrixView gate, up, down;
};

struct CpuStagePlan {
  // The halves of each kind, in order; they take turns from the stage's first half on.
  std::vector<CpuAttentionHalf> attention;
  std::vector<CpuFfnHalf> ffn;
  MatrixView embedding;               // where the stage embeds or is the head
  const float* final_norm = nullptr;  // (hidden), where it is the head
  float embedding_scale = 0;
  float query_scale = 0;
  // Radians a position, (head_dim / 2); empty where no layer of the kind is in the stage.
  std::vector<float> local_frequencies;
  std::vector<float> global_frequencies;
  CpuScratchSizes scratch;
};

// Of a stage that ValidateCompile accepted. UNIMPLEMENTED names what the CPU device does not do.
absl::StatusOr<CpuStagePlan> MakeCpuStagePlan(const ModelConfig& config, const StageSpec& spec,
                                              const StageBindings& bindings,
                                              const CompileOptions& options);

}  // namespace tandem
