#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// A matrix times many vectors: a workgroup makes a tile of 16 * ROWS_EACH matrix rows by 32 tokens,
// walking the input dimension 32 columns at a time through shared memory (13.8 KiB at most). Each
// invocation holds ROWS_EACH x 4 results; the next columns are on their way from memory while it
// works.
#include "gpu-worker/kernels/matvec/matmul_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define VALUES_BINDING 1
#define SCALES_BINDING 4
#include "gpu-worker/kernels/common/weights.glsl"

const uint GROUP = 128u;
const uint TILE_TOKENS = 32u;
const uint TILE_VECS = 8u;               // 32 columns
const uint PITCH = TILE_VECS + 1u;       // keeps rows apart in the banks
const uint TILE_BLOCKS = TILE_VECS / BLOCK_VECS;

layout(local_size_x = 128) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;
// 1 to 4: fewer where the matrix has few rows, so that there are more tiles
layout(constant_id = 1) const uint ROWS_EACH = 4;
const uint TILE_ROWS = 16u * ROWS_EACH;
const uint WEIGHT_LOADS = (TILE_ROWS * TILE_BLOCKS + GROUP - 1u) / GROUP;
const uint INPUT_LOADS = TILE_TOKENS * TILE_VECS / GROUP;

layout(push_constant) uniform Push { MatmulParams params; };
layout(std430, set = 0, binding = 2) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };

shared vec4 weight_tile[TILE_ROWS * PITCH];
shared vec4 input_tile[TILE_TOKENS * PITCH];

// What an invocation fetches for the next columns.
uvec4 raw[WEIGHT_LOADS];
float scales[WEIGHT_LOADS];  // 0 outside the matrix
vec4 inputs[INPUT_LOADS];

void Fetch(uint first_row, uint first_token, uint first_vec, uint count) {
  const uint blocks = params.cols / (4u * BLOCK_VECS);
  const uint stride = params.cols / 4u;
  [[unroll]] for (uint l = 0u; l < WEIGHT_LOADS; ++l) {
    const uint i = gl_LocalInvocationIndex + l * GROUP;
    const uint row = first_row + i / TILE_BLOCKS;
    const uint block = first_vec / BLOCK_VECS + i % TILE_BLOCKS;
    const bool inside = row < params.rows && block < blocks;
    const uint at = inside ? row * blocks + block : 0u;
    raw[l] = weight_blocks[at];
    scales[l] = inside ? BlockScale(at) : 0.0;
  }
  [[unroll]] for (uint l = 0u; l < INPUT_LOADS; ++l) {
    const uint i = gl_LocalInvocationIndex + l * GROUP;
    const uint token = first_token + i / TILE_VECS;
    const uint at = first_vec + i % TILE_VECS;
    inputs[l] = token < count && at < stride ? x[token * stride + at] : vec4(0.0);
  }
}

void Store() {
  [[unroll]] for (uint l = 0u; l < WEIGHT_LOADS; ++l) {
    const uint i = gl_LocalInvocationIndex + l * GROUP;
    if (i >= TILE_ROWS * TILE_BLOCKS) break;
    [[unroll]] for (uint q = 0u; q < BLOCK_VECS; ++q) {
      // A select, not a product with 0: bits outside the matrix may be infinite.
      weight_tile[(i / TILE_BLOCKS) * PITCH + (i % TILE_BLOCKS) * BLOCK_VECS + q] =
          scales[l] == 0.0 ? vec4(0.0) : DecodeVec(raw[l], q) * scales[l];
    }
  }
  [[unroll]] for (uint l = 0u; l < INPUT_LOADS; ++l) {
    const uint i = gl_LocalInvocationIndex + l * GROUP;
    input_tile[(i / TILE_VECS) * PITCH + i % TILE_VECS] = inputs[l];
  }
}

void main() {
  const uint count = StepRows(COUNT);
  const uint first_row = gl_WorkGroupID.x * TILE_ROWS;
  const uint first_token = gl_WorkGroupID.y * TILE_TOKENS;
  if (first_token >= count) return;
  const uint row_lane = gl_LocalInvocationIndex % 16u;
  const uint token_lane = gl_LocalInvocationIndex / 16u;

  float sums[4u * ROWS_EACH];
  [[unroll]] for (uint i = 0u; i < 4u * ROWS_EACH; ++i) sums[i] = 0.0;

  const uint vecs = params.cols / 4u;
  Fetch(first_row, first_token, 0u, count);
  for (uint first_vec = 0u; first_vec < vecs; first_vec += TILE_VECS) {
    Store();
    barrier();
    if (first_vec + TILE_VECS < vecs) Fetch(first_row, first_token, first_vec + TILE_VECS, count);
    for (uint k = 0u; k < TILE_VECS; ++k) {
      vec4 weights[ROWS_EACH];
      [[unroll]] for (uint i = 0u; i < ROWS_EACH; ++i) {
        weights[i] = weight_tile[(row_lane + 16u * i) * PITCH + k];
      }
      [[unroll]] for (uint j = 0u; j < 4u; ++j) {
        const vec4 input_vec = input_tile[(token_lane + 8u * j) * PITCH + k];
        [[unroll]] for (uint i = 0u; i < ROWS_EACH; ++i) {
          sums[j * ROWS_EACH + i] += dot(weights[i], input_vec);
        }
      }
    }
    barrier();
  }

  [[unroll]] for (uint j = 0u; j < 4u; ++j) {
    const uint token = first_token + token_lane + 8u * j;
    [[unroll]] for (uint i = 0u; i < ROWS_EACH; ++i) {
      const uint row = first_row + row_lane + 16u * i;
      if (row < params.rows && token < count) {
        y[token * params.output_stride + params.output_offset + row] = sums[j * ROWS_EACH + i];
      }
    }
  }
}
