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
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 32;  // a multiple of LANES and of the subgroup's size
layout(constant_id = 1) const uint LANES = 8;   // a power of two, at most the subgroup's size
layout(constant_id = 2) const uint LOADS = 4;
layout(constant_id = 3) const uint TOKENS = 1;  // divides the rows of the input
layout(constant_id = 4) const uint COUNT = kRowsAreTokens;

layout(push_constant) uniform Push { ProductParams params; };
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) readonly buffer InputBytes { uvec4 x[]; };
layout(std430, set = 0, binding = 2) readonly buffer InputScales { vec2 x_scales[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };

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

void main() {
  const uint workgroup = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint index = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
  const uint lane = index % LANES;
  const uint row = workgroup * (GROUP / LANES) + index / LANES;
  const uint first_token = gl_WorkGroupID.z * TOKENS;
  const WeightRow weights = FindRow(min(row, params.rows - 1u));

  float sums[TOKENS];
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) sums[t] = 0.0;
  for (uint first = lane; first < params.groups; first += LANES * LOADS) {
    uvec4 blocks[LOADS][GROUP_BLOCKS];
    float scales[LOADS];
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      const uint group = min(first + l * LANES, params.groups - 1u);
      [[unroll]] for (uint b = 0u; b < GROUP_BLOCKS; ++b) {
        blocks[l][b] = weight_blocks[weights.block + group * GROUP_BLOCKS + b];
      }
      scales[l] = first + l * LANES < params.groups ? GroupScale(weights.scale + group) : 0.0;
    }
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      const uint group = min(first + l * LANES, params.groups - 1u);
      [[unroll]] for (uint t = 0u; t < TOKENS; ++t) sums[t] +=
          scales[l] * GroupProduct(blocks[l], first_token + t, group);
    }
  }

  const uint count = StepRows(COUNT);
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
    float sum = sums[t];
    for (uint other = LANES / 2u; other > 0u; other /= 2u) sum += subgroupShuffleXor(sum, other);
    const uint token = first_token + t;
    if (lane == 0u && row < params.rows && token < count)
      y[token * params.output_stride + params.output_offset + row] = sum;
  }
}
