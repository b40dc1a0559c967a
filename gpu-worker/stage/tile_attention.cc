#include "gpu-worker/stage/tile_attention.h"

#include "gpu-worker/kernels/common/step_params.h"

namespace tandem {
namespace {

// Of attention_tile.comp: rows of a workgroup, tokens times heads.
constexpr std::uint32_t kPlainRows = 8;
// Of attention_matrix.comp.
constexpr std::uint32_t kMatrixKeys = 32;
constexpr std::uint32_t kSharedHeads = 2;

}  // namespace

TileAttentionShape PlainAttentionShape(const TileHeads& heads) {
  const std::uint32_t shared = heads.heads / heads.kv_heads % kSharedHeads == 0 ? kSharedHeads : 1;
  const std::uint32_t tokens = kPlainRows / shared;
  return {{heads.heads, heads.kv_heads, heads.head_dim, shared, tokens}, shared, tokens};
}

bool MatrixAttentionFits(const vulkan::PhysicalDevice& device, const TileHeads& heads, bool lean) {
  if (!device.matrix || heads.heads / heads.kv_heads % kSharedHeads != 0) return false;
  if (heads.head_dim != 128 && (heads.head_dim != 256 || lean)) return false;
  constexpr std::uint32_t kRows = kernels::kTileTokens * kSharedHeads;
  const std::uint32_t split = heads.head_dim / 128;
  const std::uint32_t queries = lean ? kRows : 0;
  const std::uint32_t staged = (2 * kMatrixKeys + queries) * (heads.head_dim / 8 + 1) * 16;
  const std::uint32_t of_row = (kMatrixKeys + 4 + kMatrixKeys / 2 + 4 + 1 + split) * 4;
  return staged + kRows * of_row <= device.limits.maxComputeSharedMemorySize &&
         kRows / 16 * split * 32 <= device.limits.maxComputeWorkGroupInvocations;
}

TileAttentionShape MatrixAttentionShape(const TileHeads& heads) {
  return {{heads.heads, heads.kv_heads}, kSharedHeads, kernels::kTileTokens};
}

}  // namespace tandem
