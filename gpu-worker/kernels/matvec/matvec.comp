#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// A matrix times TOKENS vectors (1 to 8). LANES invocations share a row, each takes every LANES-th
// block of 16 bytes of ROWS rows at once. With TILE_BLOCKS the vectors come through shared memory,
// so many blocks of columns at a time: read where they are, neighbouring lanes stand a block apart
// and a load touches up to as many cache lines as lanes (32 columns each with int4). Vectors behind
// the step's last token are computed from whatever is there and not written.
#include "gpu-worker/kernels/matvec/matmul_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define VALUES_BINDING 1
#define SCALES_BINDING 4
#include "gpu-worker/kernels/common/weights.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 32;  // a multiple of LANES
layout(constant_id = 1) const uint LANES = 8;
layout(constant_id = 2) const uint ROWS = 2;
layout(constant_id = 3) const uint TOKENS = 1;
layout(constant_id = 4) const uint COUNT = kRowsAreTokens;
layout(constant_id = 5) const uint TILE_BLOCKS = 8;  // a multiple of LANES, or 0

layout(push_constant) uniform Push { MatmulParams params; };
layout(std430, set = 0, binding = 2) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };

const uint PITCH = BLOCK_VECS + 1u;  // odd: lanes a block apart meet different banks

shared vec4 tile[TILE_BLOCKS == 0u ? 1u : TOKENS * TILE_BLOCKS * PITCH];
shared float partial[ROWS * TOKENS * GROUP];

void LoadTile(uint first_block) {
  const uint stride = params.cols / 4u;
  const uint first = first_block * BLOCK_VECS;
  const uint vecs = min(TILE_BLOCKS * BLOCK_VECS, stride - first);
  for (uint t = 0u; t < TOKENS; ++t) {
    for (uint i = gl_LocalInvocationIndex; i < vecs; i += GROUP) {
      tile[(t * TILE_BLOCKS + i / BLOCK_VECS) * PITCH + i % BLOCK_VECS] = x[t * stride + first + i];
    }
  }
}

void main() {
  const uint count = StepRows(COUNT);
  if (count == 0u) return;
  const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint slots = GROUP / LANES;
  const uint lane = gl_LocalInvocationIndex % LANES;
  const uint slot = gl_LocalInvocationIndex / LANES;
  const uint first_row = (group * slots + slot) * ROWS;
  const uint blocks = params.cols / (4u * BLOCK_VECS);

  float sums[ROWS * TOKENS];
  [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; ++i) sums[i] = 0.0;

  const uint stride = params.cols / 4u;
  const uint round_blocks = TILE_BLOCKS == 0u ? blocks : TILE_BLOCKS;
  for (uint first = 0u; first < blocks; first += round_blocks) {
    if (TILE_BLOCKS != 0u) {
      if (first > 0u) barrier();
      LoadTile(first);
      barrier();
    }
    const uint here = min(round_blocks, blocks - first);
    for (uint block = lane; block < here; block += LANES) {
      uvec4 raw[ROWS];
      float scale[ROWS];
      [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
        const uint at = min(first_row + r, params.rows - 1u) * blocks + first + block;
        raw[r] = weight_blocks[at];
        scale[r] = BlockScale(at);
      }
      [[unroll]] for (uint q = 0u; q < BLOCK_VECS; ++q) {
        vec4 weights[ROWS];
        [[unroll]] for (uint r = 0u; r < ROWS; ++r) weights[r] = DecodeVec(raw[r], q) * scale[r];
        [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
          const vec4 input_vec = TILE_BLOCKS == 0u ? x[t * stride + block * BLOCK_VECS + q]
                                                   : tile[(t * TILE_BLOCKS + block) * PITCH + q];
          [[unroll]] for (uint r = 0u; r < ROWS; ++r) sums[r * TOKENS + t] +=
              dot(weights[r], input_vec);
        }
      }
    }
  }

  // partial[slot][r][t][lane]
  const uint per_slot = ROWS * TOKENS * LANES;
  [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; ++i) {
    partial[slot * per_slot + i * LANES + lane] = sums[i];
  }
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < slots * ROWS * TOKENS; i += GROUP) {
    const uint row = group * slots * ROWS + i / TOKENS;
    const uint token = i % TOKENS;
    if (row >= params.rows || token >= count) continue;
    float sum = 0.0;
    for (uint l = 0u; l < LANES; ++l) sum += partial[i * LANES + l];
    y[token * params.output_stride + params.output_offset + row] = sum;
  }
}
