#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// What matrix.comp does, for so few tokens that only reading weights takes time: many subgroups
// that have one chunk of 128 columns on its way each, since a device waits for memory with many of
// them better than with few that look far ahead. A workgroup makes TILES * 16 rows by TOKENS
// tokens; its SHARES subgroups take chunks in turn, and their sums meet in shared memory, in a
// fixed order. Each reads activations where they are, RING words (quarters of a chunk) ahead.
// Workgroups of another z sum another part of the columns.
//
// With GEGLU half of the tiles are the gate's, half up's (of as many rows), and what leaves is
// gelu(gate) * up as float16 activations of the next product. With CHAINED (chain.glsl) what was in
// front may still run while the first weights are fetched.
#if defined(CHAINED)
#pragma use_vulkan_memory_model
#define MEMORY_MODEL
#endif
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define EIGHTS (TOKENS / 8)

layout(local_size_x = SHARES * 32) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;
#include "gpu-worker/kernels/matrix/fragments.glsl"

layout(push_constant) uniform Push { ProductParams params; CHAIN_LINK };
#define CHAIN_BINDING 5
#define CHAIN_CONSTANT 1
#include "gpu-worker/kernels/common/chain.glsl"
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer Input { uvec4 x[]; };
#if defined(GEGLU)
#include "gpu-worker/kernels/geglu/geglu.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"
#define OWN_TILES (TILES / 2)
#define PLANES 2
#else
layout(std430, set = 0, binding = 3) HANDED_OVER writeonly buffer Output { float y[]; };
#define OWN_TILES TILES
#define PLANES 1
#endif
#define PLANE (16 * TILE_TOKENS)

// Of each subgroup a tile's sums, with GEGLU gate's and up's.
shared float results[SHARES * PLANES * PLANE];

MatrixC sums[TILES][TOKEN_TILES];
WeightRow rows[TILES][2];
uvec4 values[TILES][2][GROUP_BLOCKS];
// Halves: of a lane's first row, and of the one eight rows behind it.
uint scales[TILES];
uvec4 ring[RING][EIGHTS];

uint Lane() { return gl_SubgroupInvocationID; }
uint Share() { return gl_SubgroupID; }
uint FirstRow() { return gl_WorkGroupID.y * (OWN_TILES * 16u); }
uint FirstToken() { return gl_WorkGroupID.x * TOKENS; }
uint Chunks() { return params.groups / 4u; }
uint FirstChunk() { return gl_WorkGroupID.z * params.chunks_a_part + Share(); }
uint EndChunk() { return min((gl_WorkGroupID.z + 1u) * params.chunks_a_part, Chunks()); }

// Weights of a chunk; behind the last one, those of the last again.
void Fetch(uint wanted) {
  const uint chunk = min(wanted, Chunks() - 1u);
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      [[unroll]] for (uint b = 0; b < GROUP_BLOCKS; ++b) {
        values[m][i][b] = weight_blocks[rows[m][i].block + chunk * (4u * GROUP_BLOCKS) + b];
      }
    }
    const uint low = rows[m][0].scale + chunk * 4u;
    const uint high = rows[m][1].scale + chunk * 4u;
    scales[m] = (weight_scales[low >> 1] >> 16u * (low & 1u) & 0xffffu) |
                weight_scales[high >> 1] >> 16u * (high & 1u) << 16u;
  }
}

// Activations of a word, of which a chunk has four.
void FetchInput(uint slot, uint word) {
  const uint chunk = min(word / 4u, Chunks() - 1u);
  [[unroll]] for (uint e = 0; e < EIGHTS; ++e) {
    const uint eight = chunk * (params.pad / 8u) + FirstToken() / 8u + e;
    ring[slot][e] = x[(eight * 4u + word % 4u) * 32u + Lane()];
  }
}

// Adds the products of a word of the chunk that is here.
void AddWord(uint word) {
  MatrixA low[TILES];
  MatrixA high[TILES];
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    const f16vec2 both = Halves(scales[m]);
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      f16vec2 a, b, c, d;
      Decode(values[m][i][0][word], values[m][i][GROUP_BLOCKS - 1][word],
             f16vec2(i == 0u ? both.x : both.y), a, b, c, d);
      SetSlots(low[m], i * 4, a, b);
      SetSlots(high[m], i * 4, c, d);
    }
  }
  [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
    MatrixB x_low;
    MatrixB x_high;
    [[unroll]] for (uint i = 0; i < TILE_TOKENS / 8; ++i) {
      const uvec4 input_slot = ring[word % RING][n * (TILE_TOKENS / 8) + i];
      SetSlots(x_low, i * 4, Halves(input_slot.x), Halves(input_slot.y));
      SetSlots(x_high, i * 4, Halves(input_slot.z), Halves(input_slot.w));
    }
    [[unroll]] for (uint m = 0; m < TILES; ++m) sums[m][n] =
        coopMatMulAddNV(low[m], x_low, sums[m][n]);
    [[unroll]] for (uint m = 0; m < TILES; ++m) sums[m][n] =
        coopMatMulAddNV(high[m], x_high, sums[m][n]);
  }
}

void AddAll() {
  const uint end = EndChunk();
  uint chunk = FirstChunk();
  Fetch(chunk);
  ChainWait(ChainLook());
  [[unroll]] for (uint slot = 0; slot < RING; ++slot) FetchInput(slot, chunk * 4u + slot);
  for (; chunk < end; chunk += SHARES) {
    [[unroll]] for (uint word = 0; word < 4; ++word) {
      AddWord(word);
      const uint later = word + RING;
      FetchInput(word % RING, (chunk + later / 4u * SHARES) * 4u + later % 4u);
    }
    Fetch(chunk + SHARES);
  }
}

// The row of tile m that stands `r` rows from its first.
uint RowOf(uint m, uint r) {
  const uint row = FirstRow() + m % OWN_TILES * 16u + r;
#if defined(GEGLU)
  return m / OWN_TILES * params.second_row + min(row, params.second_row - 1u);
#else
  return min(row, params.rows - 1u);
#endif
}

uint ResultAt(uint share, uint plane) { return (share * PLANES + plane) * PLANE; }

float Result(uint plane, uint i) {
  float sum = results[ResultAt(0u, plane) + i];
  [[unroll]] for (uint share = 1; share < SHARES; ++share)
    sum += results[ResultAt(share, plane) + i];
  return sum;
}

// A tile whose first row and token these are, from what subgroups left of it.
void WriteTile(uint first_row, uint first_token, uint count) {
#if defined(GEGLU)
  for (uint i = Share() * 32u + Lane(); i < PLANE / 4; i += 32u * SHARES) {
    vec4 value;
    [[unroll]] for (uint v = 0; v < 4; ++v)
      value[v] = Geglu(Result(0u, i * 4u + v), Result(1u, i * 4u + v)) * params.output_scale;
    const uint row = first_row + i % 4u * 4u;
    const uint token = first_token + i / 4u;
    if (row < params.second_row && token < count)
      StoreActivation(token, params.second_row, row / 4u, value, params.part_stride);
  }
#else
  for (uint i = Share() * 32u + Lane(); i < PLANE; i += 32u * SHARES) {
    const uint row = first_row + i % 16u;
    const uint token = first_token + i / 16u;
    if (row < params.rows && token < count)
      y[gl_WorkGroupID.z * params.part_stride + token * params.output_stride +
        params.output_offset + row] = Result(0u, i) * params.output_scale;
  }
#endif
}

void main() {
  // A bucket may end with tokens that the step has not.
  const uint count = StepRows(COUNT);
  if (FirstToken() >= count) {
    ChainSignal();
    return;
  }
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      rows[m][i] = FindRow(RowOf(m, i * 8u + Lane() / 4u));
      rows[m][i].block += Lane() % 4u * GROUP_BLOCKS;
      rows[m][i].scale += Lane() % 4u;
    }
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) sums[m][n] = MatrixC(0.0);
  }
  KeepConstants(count & 0x80000000u);
  AddAll();
  [[unroll]] for (uint m = 0; m < OWN_TILES; ++m) {
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
      barrier();
      [[unroll]] for (uint plane = 0; plane < PLANES; ++plane)
        coopMatStoreNV(sums[plane * OWN_TILES + m][n], results, ResultAt(Share(), plane), 16u,
                       true);
      barrier();
      WriteTile(FirstRow() + m * 16u, FirstToken() + n * TILE_TOKENS, count);
    }
  }
  ChainSignal();
}
