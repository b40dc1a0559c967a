#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// Matrices times many vectors of float16 activations (ACT_F16 of activations.glsl) with matrix
// fragments (fragments.glsl). A workgroup of WARPS subgroups of 32 makes WARPS * TILES * 16 rows by
// TOKENS tokens; each subgroup has its own rows, whose weights it decodes in registers straight
// into fragments while the next ones are on their way; activations come through shared memory, a
// chunk of 128 columns at a time. Workgroups of another z sum another part of the columns.
//
// With GEGLU the first matrix is the gate, the second up: a subgroup has 16 rows of both (TILES is
// 2), and what leaves is gelu(gate) * up as float16 activations of the next product. With CHAINED
// (chain.glsl) what was in front may still run while the first weights are fetched.
#if defined(CHAINED)
#pragma use_vulkan_memory_model
#define MEMORY_MODEL
#endif
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define THREADS (WARPS * 32)
// AHEAD: chunks whose weights are loaded together.
#define STAGE_SLOTS (TOKENS * 16)  // 16-byte slots of a chunk in shared memory
#define STAGE_LOADS (STAGE_SLOTS / THREADS)

layout(local_size_x = THREADS) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;
#include "gpu-worker/kernels/matrix/fragments.glsl"

layout(push_constant) uniform Push { ProductParams params; CHAIN_LINK };
#define CHAIN_BINDING 5
#define CHAIN_CONSTANT 1
#include "gpu-worker/kernels/common/chain.glsl"
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer Input { uvec4 x[]; };
#if defined(GEGLU)
#include "gpu-worker/kernels/matrix/geglu_tiles.glsl"
#else
layout(std430, set = 0, binding = 3) HANDED_OVER writeonly buffer Output { float y[]; };

shared float results[WARPS * 16 * TILE_TOKENS];

MatrixC sums[TILES][TOKEN_TILES];

uint Lane() { return gl_SubgroupInvocationID; }
uint Thread() { return gl_SubgroupID * 32u + gl_SubgroupInvocationID; }
uint FirstRow() { return (gl_WorkGroupID.y * WARPS + gl_SubgroupID) * (TILES * 16u); }
uint FirstToken() { return gl_WorkGroupID.x * TOKENS; }
#endif

shared uvec4 stage[2 * STAGE_SLOTS];

// What an invocation works on. `now` are the weights of AHEAD chunks, `next` those of the chunks
// behind them, which are on their way.
WeightRow rows[TILES][2];
uvec4 now[TILES][2][AHEAD][GROUP_BLOCKS];
uvec4 next[TILES][2][AHEAD][GROUP_BLOCKS];
#if defined(LEAN)
float now_scale[TILES][AHEAD][2];
float next_scale[TILES][AHEAD][2];
#else
// Halves: of a lane's first row, and of the one eight rows behind it.
uint now_scale[TILES][AHEAD];
uint next_scale[TILES][AHEAD];
#endif
uvec4 moved[STAGE_LOADS];

uint FirstChunk() { return gl_WorkGroupID.z * params.chunks_a_part; }
uint EndChunk() { return min(FirstChunk() + params.chunks_a_part, params.groups / 4u); }

// Fetches the weights of AHEAD chunks from `chunk`; behind the last one, those of the last again.
void LoadNext(uint chunk) {
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint h = 0; h < AHEAD; ++h) {
      const uint group = min(chunk + h, EndChunk() - 1u) * 4u + Lane() % 4u;
      [[unroll]] for (uint i = 0; i < 2; ++i) {
        [[unroll]] for (uint b = 0; b < GROUP_BLOCKS; ++b) {
          next[m][i][h][b] = weight_blocks[rows[m][i].block + group * GROUP_BLOCKS + b];
        }
      }
      const uint low = rows[m][0].scale + group;
      const uint high = rows[m][1].scale + group;
#if defined(LEAN)
      next_scale[m][h] = float[2](GroupScale(low), GroupScale(high));
#else
      next_scale[m][h] = (weight_scales[low >> 1] >> 16u * (low & 1u) & 0xffffu) |
                         weight_scales[high >> 1] >> 16u * (high & 1u) << 16u;
#endif
    }
  }
}

void NextIsNow() {
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint h = 0; h < AHEAD; ++h) {
      [[unroll]] for (uint i = 0; i < 2; ++i) {
        [[unroll]] for (uint b = 0; b < GROUP_BLOCKS; ++b) now[m][i][h][b] = next[m][i][h][b];
      }
      now_scale[m][h] = next_scale[m][h];
    }
  }
}

// A chunk of the workgroup's tokens lies in one piece.
void LoadStage(uint chunk) {
  const uint from = (chunk * params.pad + FirstToken()) * 16u;
  [[unroll]] for (uint j = 0; j < STAGE_LOADS; ++j) moved[j] = x[from + j * THREADS + Thread()];
}

void StoreStage(uint buffer_start) {
  [[unroll]] for (uint j = 0; j < STAGE_LOADS; ++j)
    stage[buffer_start + j * THREADS + Thread()] = moved[j];
}

// Adds the products with word `word` of chunk `h` of `now`.
void AddWord(uint h, uint word, uint buffer_start) {
  MatrixA low[TILES];
  MatrixA high[TILES];
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
#if defined(LEAN)
    const f16vec2 both = f16vec2(now_scale[m][h][0], now_scale[m][h][1]);
#else
    const f16vec2 both = Halves(now_scale[m][h]);
#endif
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      f16vec2 a, b, c, d;
      const f16vec2 scale = f16vec2(i == 0u ? both.x : both.y);
      Decode(now[m][i][h][0][word], now[m][i][h][GROUP_BLOCKS - 1][word], scale, a, b, c, d);
      SetSlots(low[m], i * 4, a, b);
      SetSlots(high[m], i * 4, c, d);
    }
  }
  [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
    MatrixB x_low;
    MatrixB x_high;
    [[unroll]] for (uint i = 0; i < TILE_TOKENS / 8; ++i) {
      const uint eight = n * (TILE_TOKENS / 8) + i;
      const uvec4 slot = stage[buffer_start + (eight * 4u + word) * 32u + Lane()];
      SetSlots(x_low, i * 4, Halves(slot.x), Halves(slot.y));
      SetSlots(x_high, i * 4, Halves(slot.z), Halves(slot.w));
    }
    [[unroll]] for (uint m = 0; m < TILES; ++m) sums[m][n] =
        coopMatMulAddNV(low[m], x_low, sums[m][n]);
    [[unroll]] for (uint m = 0; m < TILES; ++m) sums[m][n] =
        coopMatMulAddNV(high[m], x_high, sums[m][n]);
  }
}

// Adds `count` chunks from `chunk`, which stand in `now`, and lets the next ones take their place.
// Where AHEAD is even each has the same buffer every time, which saves arithmetic.
void AddChunks(uint chunk, uint count) {
  LoadNext(chunk + AHEAD);
  [[unroll]] for (uint h = 0; h < AHEAD; ++h) {
    if (h >= count) break;
    const uint side = AHEAD % 2 == 0 ? h & 1u : (chunk - FirstChunk()) & 1u;
    const bool more = chunk + h + 1u < EndChunk();
    if (more) LoadStage(chunk + h + 1u);
    [[unroll]] for (uint word = 0; word < 4; ++word) AddWord(h, word, side * STAGE_SLOTS);
    if (more) StoreStage((1u - side) * STAGE_SLOTS);
    barrier();
  }
  NextIsNow();
}

#if !defined(GEGLU)
// Through shared memory, where rows and tokens outside can be told from those inside.
void WriteSums() {
  const uint count = StepRows(COUNT);
  const uint mine = gl_SubgroupID * (16u * TILE_TOKENS);
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
      subgroupBarrier();
      coopMatStoreNV(sums[m][n], results, mine, 16u, true);
      subgroupBarrier();
      [[unroll]] for (uint e = 0; e < TILE_TOKENS / 2; ++e) {
        const uint row = FirstRow() + m * 16u + Lane() % 16u;
        const uint token = FirstToken() + n * TILE_TOKENS + 2u * e + Lane() / 16u;
        if (row < params.rows && token < count) {
          y[gl_WorkGroupID.z * params.part_stride + token * params.output_stride +
            params.output_offset + row] = results[mine + e * 32u + Lane()] * params.output_scale;
        }
      }
    }
  }
}

// The row of tile m that stands `r` rows from its first.
uint RowOf(uint m, uint r) { return min(FirstRow() + m * 16u + r, params.rows - 1u); }
#endif

void main() {
  // A bucket may end with tokens that the step has not.
  if (FirstToken() >= StepRows(COUNT)) {
    ChainSignal();
    return;
  }
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) rows[m][i] = FindRow(RowOf(m, i * 8u + Lane() / 4u));
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) sums[m][n] = MatrixC(0.0);
  }
  KeepConstants(StepRows(COUNT) & 0x80000000u);
  LoadNext(FirstChunk());
  ChainWait(ChainLook());
  NextIsNow();
  LoadStage(FirstChunk());
  StoreStage(0u);
  barrier();
  uint chunk = FirstChunk();
#if TOKENS > 16
  for (; chunk + AHEAD <= EndChunk(); chunk += AHEAD) AddChunks(chunk, AHEAD);
  // One is left over; none of the buffers has changed sides.
  if (AHEAD == 2 && chunk < EndChunk()) AddChunks(chunk, 1u);
#else
  // With so little to do for a chunk NVIDIA's compiler does better where it cannot move loads over
  // a stage's end.
  for (; chunk < EndChunk(); chunk += AHEAD) AddChunks(chunk, min(AHEAD, EndChunk() - chunk));
#endif
  WriteSums();
  ChainSignal();
}
