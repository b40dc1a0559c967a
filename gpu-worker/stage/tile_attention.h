#pragma once

#include <cstdint>
#include <vector>

#include "gpu-worker/vulkan/physical_device.h"

namespace tandem {

// How attention over tiles of tokens is shaped: attention_tile.comp and attention_matrix.comp.

struct TileHeads {
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
};

struct TileAttentionShape {
  std::vector<std::uint32_t> constants;
  std::uint32_t shared_heads = 1;  // of a workgroup
  std::uint32_t tokens = 0;        // of a workgroup, divides kTileTokens
};

TileAttentionShape PlainAttentionShape(const TileHeads& heads);

// Whether the device can run attention_matrix_*_<head_dim> for such heads; or with `lean`
// attention_matrix_*_<head_dim>_lean, which takes fewer registers and more shared memory.
bool MatrixAttentionFits(const vulkan::PhysicalDevice& device, const TileHeads& heads, bool lean);
TileAttentionShape MatrixAttentionShape(const TileHeads& heads);

}  // namespace tandem
