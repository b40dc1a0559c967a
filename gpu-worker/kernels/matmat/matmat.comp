#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// A matrix times many vectors: a workgroup makes a tile of 64 matrix rows by 32 tokens, walking the input dimension 32 columns at a time through
// shared memory (13.8 KiB). Each invocation holds 4 x 4 results.
#include "gpu-worker/kernels/matvec/matmul_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define VALUES_BINDING 1
#define SCALES_BINDING 4
#include "gpu-worker/kernels/common/weights.glsl"

const uint GROUP = 128u;
const uint TILE_ROWS = 64u;
const uint TILE_TOKENS = 32u;
const uint TILE_VECS = 8u;               // 32 columns
const uint PITCH = TILE_VECS + 1u;       // keeps rows apart in the banks
const uint TILE_BLOCKS = TILE_VECS / BLOCK_VECS;

layout(local_size_x = 128) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;

layout(push_constant) uniform Push { MatmulParams params; };
layout(std430, set = 0, binding = 2) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };

shared vec4 weight_tile[TILE_ROWS * PITCH];
shared vec4 input_tile[TILE_TOKENS * PITCH];

void LoadWeights(uint first_row, uint first_vec) {
  const uint blocks = params.cols / (4u * BLOCK_VECS);
  for (uint i = gl_LocalInvocationIndex; i < TILE_ROWS * TILE_BLOCKS; i += GROUP) {
    const uint row = i / TILE_BLOCKS;
    const uint part = i % TILE_BLOCKS;
    const uint block = first_vec / BLOCK_VECS + part;
    const bool inside = first_row + row < params.rows && block < blocks;
    const uint at = inside ? (first_row + row) * blocks + block : 0u;
    const uvec4 raw = weight_blocks[at];
    const float scale = inside ? BlockScale(at) : 0.0;
    [[unroll]] for (uint q = 0u; q < BLOCK_VECS; ++q) {
      weight_tile[row * PITCH + part * BLOCK_VECS + q] = inside ? DecodeVec(raw, q) * scale : vec4(0.0);
    }
  }
}

void LoadInput(uint first_token, uint first_vec, uint count) {
  const uint stride = params.cols / 4u;
  for (uint i = gl_LocalInvocationIndex; i < TILE_TOKENS * TILE_VECS; i += GROUP) {
    const uint token = first_token + i / TILE_VECS;
    const uint at = first_vec + i % TILE_VECS;
    input_tile[(i / TILE_VECS) * PITCH + i % TILE_VECS] =
        token < count && at < stride ? x[token * stride + at] : vec4(0.0);
  }
}

void main() {
  const uint count = StepRows(COUNT);
  const uint first_row = gl_WorkGroupID.x * TILE_ROWS;
  const uint first_token = gl_WorkGroupID.y * TILE_TOKENS;
  if (first_token >= count) return;
  const uint row_lane = gl_LocalInvocationIndex % 16u;
  const uint token_lane = gl_LocalInvocationIndex / 16u;

  float sums[16];
  [[unroll]] for (uint i = 0u; i < 16u; ++i) sums[i] = 0.0;

  for (uint first_vec = 0u; first_vec < params.cols / 4u; first_vec += TILE_VECS) {
    LoadWeights(first_row, first_vec);
    LoadInput(first_token, first_vec, count);
    barrier();
    for (uint k = 0u; k < TILE_VECS; ++k) {
      vec4 weights[4];
      [[unroll]] for (uint i = 0u; i < 4u; ++i) weights[i] = weight_tile[(row_lane + 16u * i) * PITCH + k];
      [[unroll]] for (uint j = 0u; j < 4u; ++j) {
        const vec4 input_vec = input_tile[(token_lane + 8u * j) * PITCH + k];
        [[unroll]] for (uint i = 0u; i < 4u; ++i) sums[j * 4u + i] += dot(weights[i], input_vec);
      }
    }
    barrier();
  }

  [[unroll]] for (uint j = 0u; j < 4u; ++j) {
    const uint token = first_token + token_lane + 8u * j;
    [[unroll]] for (uint i = 0u; i < 4u; ++i) {
      const uint row = first_row + row_lane + 16u * i;
      if (row < params.rows && token < count) {
        y[token * params.output_stride + params.output_offset + row] = sums[j * 4u + i];
      }
    }
  }
}
