#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "gpu-worker/stage/step_buffer.h"
#include "gpu-worker/vulkan/buffer.h"
#include "gpu-worker/vulkan/logical_device.h"
#include "lib/device/stage.h"
#include "lib/model/config.h"

namespace tandem {

// Buffers of one stage, allocated once, all float32 with rows contiguous. What the stage's halves
// do not need stays empty.
struct StageMemory {
  std::uint32_t tokens = 0;      // rows below: max_tokens rounded up to a power of two
  std::uint32_t logit_rows = 0;  // likewise
  StepBuffer step;
  vulkan::Buffer residual;            // (tokens, hidden): between halves of this stage
  vulkan::Buffer normed;              // (tokens, hidden)
  vulkan::Buffer branch;              // (tokens, hidden): what a half adds
  vulkan::Buffer qkv;                 // (tokens, (heads + 2 * kv_heads) * head_dim)
  vulkan::Buffer attended;            // (tokens, heads * head_dim)
  vulkan::Buffer gate;                // (tokens, ffn)
  vulkan::Buffer up;                  // (tokens, ffn)
  vulkan::Buffer head_normed;         // (logit_rows, hidden)
  vulkan::Buffer logits;              // (logit_rows, vocab), read by the host
  vulkan::Buffer global_frequencies;  // (head_dim / 2): turn of RoPE per position, in radians
  vulkan::Buffer window_frequencies;

  // UNIMPLEMENTED names a buffer that is larger than the device binds at once.
  static absl::StatusOr<StageMemory> Create(const vulkan::LogicalDevice& device,
                                            const ModelConfig& config, const StageSpec& spec,
                                            const StepLimits& limits);
};

}  // namespace tandem
