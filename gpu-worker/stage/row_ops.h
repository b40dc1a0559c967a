#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/vulkan_weights.h"
#include "lib/device/stage.h"
#include "lib/model/config.h"

namespace tandem {

// Rows that a product reads, in the form it wants, or writes, in its parts.
struct ProductRows {
  vulkan::BufferSlice slice;
  Product product;
};

// The same of attention, which may stand alone: no product then, one part, and float32 rows.
struct AttentionRows {
  vulkan::BufferSlice slice;
  std::optional<Product> product;

  std::uint32_t parts(std::uint32_t rows) const { return product ? product->parts(rows) : 1; }
  std::uint32_t pad(std::uint32_t rows) const { return product ? product->pad(rows) : rows; }
  ActivationForm form(std::uint32_t rows) const {
    return product ? product->form(rows) : ActivationForm::kFloat32;
  }
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
  // The same over tokens, as float32 rows that no product reads.
  Op PlainNorm(std::string name, const ResidualRef& input, const DeviceTensor& weight,
               vulkan::BufferSlice normed) const;

  struct NextNorm {
    const DeviceTensor& weight;
    ProductRows normed;
  };
  // `always`: for buckets of which the branch's product can do it, too; `chained`: for a chain
  // (chain.h), which the op does not join.
  struct PostNormKind {
    bool always = false;
    bool chained = false;
  };
  // output = input + rmsnorm(branch) * weight, then with `next` normed = rmsnorm(output) * its
  // weight.
  Op PostNorm(std::string name, const ProductRows& branch, const DeviceTensor& weight,
              const ResidualRef& input, const ResidualRef& output,
              const std::optional<NextNorm>& next, PostNormKind kind) const;
  // activated = gelu(gate) * up; a row of `gate_up` holds gate, then up. Nothing for buckets of
  // which the product does it.
  Op Geglu(std::string name, const ProductRows& gate_up, const ProductRows& activated) const;

  struct AttentionBuffers {
    AttentionRows qkv;
    vulkan::BufferSlice keys;
    vulkan::BufferSlice values;
    AttentionRows attended;
    KvType type = KvType::kFloat32;
    std::uint32_t window = 0;  // 0: a global layer
  };
  // Norms and RoPE of queries and keys; keys and values to the cache.
  Op QkvRope(std::string name, const AttentionBuffers& buffers, const DeviceTensor& query_norm,
             const DeviceTensor& key_norm, vulkan::BufferSlice frequencies) const;
  // Of the tokens that stand in no tile.
  Op Attention(std::string name, const AttentionBuffers& buffers) const;
  // Of the tokens of tiles; does not wait for Attention, in front of it.
  Op TileAttention(std::string name, const AttentionBuffers& buffers) const;

  // Rows of tokens, so many columns each.
  Op CopyRows(std::string name, const ResidualRef& from, const ResidualRef& to,
              std::uint32_t columns) const;

  // Of rows of logits: sums of blocks, and from these the best of each row.
  Op LogitBlocks(vulkan::BufferSlice logits, vulkan::BufferSlice of_blocks,
                 const kernels::CandidatesParams& params) const;
  Op Candidates(vulkan::BufferSlice logits, vulkan::BufferSlice of_blocks,
                vulkan::BufferSlice found, const kernels::CandidatesParams& params) const;

 private:
  std::vector<std::uint32_t> HeadConstants() const;

  const DeviceContext context_;
  const ModelConfig& config_;
  const vulkan::BufferSlice step_;
};

}  // namespace tandem
