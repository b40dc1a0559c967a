#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "lib/device/stage.h"
#include "lib/model/config.h"

namespace tandem {

// Rows of the residual stream: a buffer and which base of the step it starts at (kBaseZero,
// kBaseInput, kBaseOutput).
struct ResidualRef {
  vulkan::BufferSlice slice;
  std::uint32_t base = 0;
};

// Rows that a product reads, in the form it wants, or writes, in its parts.
struct ProductRows {
  vulkan::BufferSlice slice;
  Product product;
};

// The ops of a stage apart from matrix products. `context`, `config` and the buffers outlive them.
class RowOps {
 public:
  RowOps(const DeviceContext& context, const ModelConfig& config, vulkan::BufferSlice step)
      : context_(context), config_(config), step_(step) {}

  // Appends one op for each chunk of the embedding.
  absl::Status AppendEmbed(const DeviceTensor& embedding, const ResidualRef& output,
                           std::vector<Op>* ops) const;
  // normed = rmsnorm(input) * weight, over tokens or over logit rows (`count`).
  Op Norm(std::string name, const ResidualRef& input, const DeviceTensor& weight,
          const ProductRows& normed, std::uint32_t count) const;

  struct NextNorm {
    const DeviceTensor& weight;
    ProductRows normed;
  };
  // output = input + rmsnorm(branch) * weight, then with `next` normed = rmsnorm(output) * its
  // weight.
  Op PostNorm(std::string name, const ProductRows& branch, const DeviceTensor& weight,
              const ResidualRef& input, const ResidualRef& output,
              const std::optional<NextNorm>& next) const;
  // activated = gelu(gate) * up; a row of `gate_up` holds gate, then up.
  Op Geglu(std::string name, vulkan::BufferSlice gate_up, const ProductRows& activated) const;

  struct AttentionBuffers {
    ProductRows qkv;
    vulkan::BufferSlice keys;
    vulkan::BufferSlice values;
    ProductRows attended;
    KvType type = KvType::kFloat32;
    std::uint32_t window = 0;  // 0: a global layer
  };
  // Norms and RoPE of queries and keys; keys and values to the cache.
  Op QkvRope(std::string name, const AttentionBuffers& buffers, const DeviceTensor& query_norm,
             const DeviceTensor& key_norm, vulkan::BufferSlice frequencies) const;
  Op Attention(std::string name, const AttentionBuffers& buffers) const;

 private:
  std::vector<std::uint32_t> HeadConstants() const;

  const DeviceContext context_;
  const ModelConfig& config_;
  const vulkan::BufferSlice step_;
};

}  // namespace tandem
