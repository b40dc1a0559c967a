// What kernels with GEGLU share whose subgroups have a tile of 16 rows of the gate and one of the
// same rows of up, WARPS subgroups a workgroup: sums[0] and sums[1] of TOKENS tokens.
#include "gpu-worker/kernels/geglu/geglu.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"

shared float results[WARPS * 16 * TILE_TOKENS];

MatrixC sums[2][TOKEN_TILES];

uint Lane() { return gl_SubgroupInvocationID; }
uint Thread() { return gl_SubgroupID * 32u + gl_SubgroupInvocationID; }
uint FirstRow() { return (gl_WorkGroupID.y * WARPS + gl_SubgroupID) * 16u; }
uint FirstToken() { return gl_WorkGroupID.x * TOKENS; }

// The row of the gate (m = 0) or of up that stands `r` rows from the subgroup's first.
uint RowOf(uint m, uint r) {
  return m * params.second_row + min(FirstRow() + r, params.second_row - 1u);
}

// Through shared memory, where the four columns of a half slot come together.
void WriteSums() {
  const uint count = StepRows(COUNT);
  const uint mine = gl_SubgroupID * (16u * TILE_TOKENS);
  [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
    subgroupBarrier();
    MatrixC both;
    [[unroll]] for (uint i = 0; i < TILE_TOKENS / 2; ++i)
      both[i] = Geglu(sums[0][n][i], sums[1][n][i]);
    coopMatStoreNV(both, results, mine, 16u, true);
    subgroupBarrier();
    [[unroll]] for (uint e = 0; e < TILE_TOKENS / 8; ++e) {
      const uint i = e * 32u + Lane();
      const uint row = FirstRow() + i % 4u * 4u;
      const uint token = FirstToken() + n * TILE_TOKENS + i / 4u;
      const uint at = mine + i * 4u;
      if (row < params.second_row && token < count)
        StoreActivation(token, params.second_row, row / 4u,
                        vec4(results[at], results[at + 1u], results[at + 2u], results[at + 3u]) *
                            params.output_scale,
                        params.part_stride);
    }
  }
}
