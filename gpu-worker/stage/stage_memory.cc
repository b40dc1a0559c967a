#include "gpu-worker/stage/stage_memory.h"

#include <bit>
#include <cmath>
#include <string_view>
#include <vector>

#include "gpu-worker/vulkan/text.h"
#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using vulkan::Buffer;
using vulkan::Placement;

// Allocates (rows, columns) floats.
absl::Status Make(const vulkan::LogicalDevice& device, std::string_view what, std::uint32_t rows,
                  std::int32_t columns, Placement placement, Buffer* buffer) {
  const std::uint64_t bytes =
      std::uint64_t{rows} * static_cast<std::uint64_t>(columns) * sizeof(float);
  const std::uint64_t most = device.physical().limits.maxStorageBufferRange;
  if (bytes > most) {
    return absl::UnimplementedError(vulkan::Cat(what, ": ", rows, " x ", columns, " floats are ",
                                                bytes, " bytes, the device binds at most ", most,
                                                " at once; fewer tokens a step would fit"));
  }
  TANDEM_ASSIGN_OR_RETURN(*buffer, Buffer::Create(device, bytes, placement, what));
  return absl::OkStatus();
}

// Made in double; the kernels multiply with a float32 position, as the reference does.
absl::Status MakeFrequencies(const vulkan::LogicalDevice& device, const ModelConfig& config,
                             double theta, double factor, Buffer* buffer) {
  const std::int32_t pairs = config.head_dim / 2;
  TANDEM_RETURN_IF_ERROR(Make(device, "RoPE frequencies", 1, pairs, Placement::kUpload, buffer));
  auto* const to = reinterpret_cast<float*>(buffer->data());
  for (std::int32_t i = 0; i < pairs; ++i) {
    to[i] = static_cast<float>(std::pow(theta, -2.0 * i / config.head_dim) / factor);
  }
  return absl::OkStatus();
}

absl::Status MakeAttention(const vulkan::LogicalDevice& device, const ModelConfig& config,
                           StageMemory* memory) {
  const std::int32_t query = config.num_heads * config.head_dim;
  const std::int32_t key = config.num_kv_heads * config.head_dim;
  TANDEM_RETURN_IF_ERROR(Make(device, "queries, keys and values", memory->tokens, query + 2 * key,
                              Placement::kDevice, &memory->qkv));
  TANDEM_RETURN_IF_ERROR(Make(device, "attention result", memory->tokens, query, Placement::kDevice,
                              &memory->attended));
  TANDEM_RETURN_IF_ERROR(MakeFrequencies(device, config, config.rope_theta_global,
                                         config.rope_factor_global, &memory->global_frequencies));
  return MakeFrequencies(device, config, config.rope_theta_local, 1.0, &memory->window_frequencies);
}

}  // namespace

absl::StatusOr<StageMemory> StageMemory::Create(const vulkan::LogicalDevice& device,
                                                const ModelConfig& config, const StageSpec& spec,
                                                const StepLimits& limits) {
  StageMemory memory;
  memory.tokens = std::bit_ceil(static_cast<std::uint32_t>(limits.max_tokens));
  TANDEM_ASSIGN_OR_RETURN(memory.step, StepBuffer::Create(device, limits));
  const auto rows = [&](std::string_view what, std::int32_t columns, Buffer* buffer) {
    return Make(device, what, memory.tokens, columns, Placement::kDevice, buffer);
  };
  TANDEM_RETURN_IF_ERROR(rows("residual", config.hidden_size, &memory.residual));
  if (spec.first_half < spec.last_half) {
    TANDEM_RETURN_IF_ERROR(rows("normed residual", config.hidden_size, &memory.normed));
    TANDEM_RETURN_IF_ERROR(rows("branch", config.hidden_size, &memory.branch));
  }
  if (spec.HasAttention()) TANDEM_RETURN_IF_ERROR(MakeAttention(device, config, &memory));
  if (spec.first_half / 2 < spec.last_half / 2) {  // an odd half lies in the range
    TANDEM_RETURN_IF_ERROR(rows("gate", config.ffn_size, &memory.gate));
    TANDEM_RETURN_IF_ERROR(rows("up", config.ffn_size, &memory.up));
  }
  if (spec.head && limits.max_logit_rows > 0) {
    memory.logit_rows = std::bit_ceil(static_cast<std::uint32_t>(limits.max_logit_rows));
    TANDEM_RETURN_IF_ERROR(Make(device, "final normed rows", memory.logit_rows, config.hidden_size,
                                Placement::kDevice, &memory.head_normed));
    TANDEM_RETURN_IF_ERROR(Make(device, "logits", memory.logit_rows, config.vocab_size,
                                Placement::kReadback, &memory.logits));
  }
  return memory;
}

}  // namespace tandem
