#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_spirv_intrinsics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
// Matrices times vectors, TOKENS (1 to 8) a workgroup and z, of 8-bit activations (ACT_Q8 of
// activations.glsl) with packed dot products. LANES neighbouring invocations of a subgroup share a
// row; each has LOADS groups of 32 columns in flight at once. Vectors behind the step's last token
// are computed from whatever is there and not written.
//
// With GEGLU the first matrix is the gate, the second up, of as many rows: LANES invocations take
// one row of both, a workgroup 32 of them, and what leaves is gelu(gate) * up as 8-bit activations
// of the next product. With POST_NORM, for one token, the last workgroup ends the half layer
// (post_norm_tail.glsl). With CHAINED it waits for what was in front (chain.glsl).
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 32;  // a multiple of LANES and of the subgroup's size
layout(constant_id = 1) const uint LANES = 8;   // a power of two, at most the subgroup's size
layout(constant_id = 2) const uint LOADS = 4;
layout(constant_id = 3) const uint TOKENS = 1;  // divides the rows of the input
layout(constant_id = 4) const uint COUNT = kRowsAreTokens;

layout(push_constant) uniform Push { ProductParams params; CHAIN_LINK };
#define CHAIN_BINDING 5
#define CHAIN_CONSTANT 5
#include "gpu-worker/kernels/common/chain.glsl"
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer InputBytes { uvec4 x[]; };
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer InputScales { vec2 x_scales[]; };
#if defined(GEGLU)
const uint ROWS_EACH = 2u;  // of the gate, and of up
#include "gpu-worker/kernels/geglu/geglu.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"
shared float activated[TOKENS * 32u];
#elif defined(POST_NORM)
const uint ROWS_EACH = 1u;
layout(std430, set = 0, binding = 3) coherent buffer Output { float y[]; };
#else
const uint ROWS_EACH = 1u;
layout(std430, set = 0, binding = 3) HANDED_OVER writeonly buffer Output { float y[]; };
#endif

uint Index() { return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID; }
#if defined(POST_NORM)
#include "gpu-worker/kernels/dot/post_norm_tail.glsl"
#endif

// OpSDot of four signed bytes each (VK_KHR_shader_integer_dot_product): capabilities DotProduct and
// DotProductInput4x8BitPacked. Debian 12's glslc knows no extension for it.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [ 6019, 6018 ],
                  id = 4450) int PackedDot(uint a, uint b, spirv_literal int format);

int Dot(uvec4 a, uvec4 b) {
  return PackedDot(a.x, b.x, 0) + PackedDot(a.y, b.y, 0) + PackedDot(a.z, b.z, 0) +
         PackedDot(a.w, b.w, 0);
}

float GroupProduct(uvec4 blocks[GROUP_BLOCKS], uint token, uint group) {
  const uint at = token * params.groups * 8u + group * 2u;
  const vec2 scale = x_scales[(token * 4u + 1u) * params.groups * 4u + group];
#if defined(WEIGHT_INT4)
  const int sum =
      Dot(blocks[0] & 0x0f0f0f0fu, x[at]) + Dot(blocks[0] >> 4 & 0x0f0f0f0fu, x[at + 1u]);
  return float(sum) * scale.x - scale.y;
#else
  return float(Dot(blocks[0], x[at]) + Dot(blocks[1], x[at + 1u])) * scale.x;
#endif
}

// Of this lane's share of the columns.
float sums[ROWS_EACH][TOKENS];

// Adds the products of all columns with the rows.
void Multiply(WeightRow weights[ROWS_EACH], uint lane, uint first_token) {
  for (uint first = lane; first < params.groups; first += LANES * LOADS) {
    uvec4 blocks[ROWS_EACH][LOADS][GROUP_BLOCKS];
    float scales[ROWS_EACH][LOADS];
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      const uint group = min(first + l * LANES, params.groups - 1u);
      [[unroll]] for (uint r = 0u; r < ROWS_EACH; ++r) {
        [[unroll]] for (uint b = 0u; b < GROUP_BLOCKS; ++b) {
          blocks[r][l][b] = weight_blocks[weights[r].block + group * GROUP_BLOCKS + b];
        }
        scales[r][l] =
            first + l * LANES < params.groups ? GroupScale(weights[r].scale + group) : 0.0;
      }
    }
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      const uint group = min(first + l * LANES, params.groups - 1u);
      [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
        [[unroll]] for (uint r = 0u; r < ROWS_EACH; ++r) sums[r][t] +=
            scales[r][l] * GroupProduct(blocks[r][l], first_token + t, group);
      }
    }
  }
}

#if defined(GEGLU)
// Workgroup's 32 columns of the result, from the sums of their lanes.
void WriteActivated(uint workgroup, uint lane, uint first_token) {
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
    if (lane == 0u) activated[t * 32u + Index() / LANES] = Geglu(sums[0][t], sums[1][t]);
  }
  barrier();
  const uint count = StepRows(COUNT);
  for (uint i = Index(); i < TOKENS * 8u; i += GROUP) {
    const uint token = first_token + i / 8u;
    const uint at = i * 4u;
    if (token < count)
      StoreActivation(token, params.second_row, workgroup * 8u + i % 8u,
                      vec4(activated[at], activated[at + 1u], activated[at + 2u],
                           activated[at + 3u]),
                      0u);
  }
}
#endif

void main() {
  const uint workgroup = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint lane = Index() % LANES;
  const uint row = workgroup * (GROUP / LANES) + Index() / LANES;
  const uint first_token = gl_WorkGroupID.z * TOKENS;
  WeightRow weights[ROWS_EACH];
#if defined(GEGLU)
  // Of whole workgroups.
  if (row >= params.second_row) {
    ChainSignal();
    return;
  }
  weights[1] = FindRow(params.second_row + row);
#endif
  weights[0] = FindRow(min(row, params.rows - 1u));
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
    [[unroll]] for (uint r = 0u; r < ROWS_EACH; ++r) sums[r][t] = 0.0;
  }
  ChainWait(ChainLook());
  Multiply(weights, lane, first_token);
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
    [[unroll]] for (uint r = 0u; r < ROWS_EACH; ++r) {
      for (uint other = LANES / 2u; other > 0u; other /= 2u)
        sums[r][t] += subgroupShuffleXor(sums[r][t], other);
    }
  }
#if defined(GEGLU)
  WriteActivated(workgroup, lane, first_token);
#else
  const uint count = StepRows(COUNT);
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
    const uint token = first_token + t;
    if (lane == 0u && row < params.rows && token < count)
      y[token * params.output_stride + params.output_offset + row] = sums[0][t];
  }
#endif
#if defined(POST_NORM)
  PostNorm();
#endif
  ChainSignal();
}
