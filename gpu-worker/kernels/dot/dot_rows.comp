#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_spirv_intrinsics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
// What dot.comp does, with a row for each invocation: for devices where a load costs much for each
// lane, whatever the address (software drivers). 128 columns at a time, so the columns are a
// multiple of them, and each matrix's first scale one of 4. Eight neighbouring lanes bring the
// activations of these, 16 columns each, and hand them to all by shuffles.
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 32;  // a multiple of the subgroup's size
layout(constant_id = 1) const uint TOKENS = 1;  // divides the rows of the input
layout(constant_id = 2) const uint COUNT = kRowsAreTokens;
// Else int4 weights are multiplied two at a time, as the halves of a word.
layout(constant_id = 3) const bool PACKED = true;

layout(push_constant) uniform Push { ProductParams params; };
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) readonly buffer InputBytes { uvec4 x[]; };
layout(std430, set = 0, binding = 2) readonly buffer InputScales { vec2 x_scales[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };
layout(std430, set = 0, binding = 4) readonly buffer WeightScaleFours { uvec2 scale_fours[]; };

const uint UNIT = 4u;  // groups of 32 columns

// OpSDot of four signed bytes each (VK_KHR_shader_integer_dot_product); see dot.comp.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [ 6019, 6018 ],
                  id = 4450) int PackedDot(uint a, uint b, spirv_literal int format);

// A lane's 16 columns: four in a word, or, of int4 without PACKED, the first and the third of four
// as signed halves with the first on top, then the second and the fourth.
void Prepare(uvec4 bytes, out uvec4 columns[2]) {
  columns[0] = columns[1] = bytes;
#if defined(WEIGHT_INT4)
  if (PACKED) return;
  const ivec4 word = ivec4(bytes);
  columns[0] = uvec4((word << 24 >> 8) + (word << 8 >> 24));
  columns[1] = uvec4((word << 16 >> 24 << 16) + (word >> 24));
#endif
}

// Of a row's group and the one of `columns` that two lanes from `lane` on have.
int GroupSum(uvec4 blocks[GROUP_BLOCKS], uvec4 columns[2], uint lane) {
#if defined(WEIGHT_INT4)
  if (!PACKED) {
    // Of (w0 + w2 * 2^16) * (x2 + x0 * 2^16) the upper half is w0 * x0 + w2 * x2 and the lower one
    // no sum that is wanted. In 8 of them the lower one stays within 2^14, the upper within 2^15.
    const uint mask = 0x000f000fu;
    uint low = 0x8000u;
    uint high = 0x8000u;
    [[unroll]] for (uint k = 0u; k < 4u; ++k) {
      const uint word = blocks[0][k];
      low += (word & mask) * subgroupShuffle(columns[0][k], lane);
      low += (word >> 8 & mask) * subgroupShuffle(columns[1][k], lane);
      high += (word >> 4 & mask) * subgroupShuffle(columns[0][k], lane + 1u);
      high += (word >> 12 & mask) * subgroupShuffle(columns[1][k], lane + 1u);
    }
    return (int(low) >> 16) + (int(high) >> 16);
  }
  const uvec4 first = blocks[0] & 0x0f0f0f0fu;
  const uvec4 second = blocks[0] >> 4 & 0x0f0f0f0fu;
#else
  const uvec4 first = blocks[0];
  const uvec4 second = blocks[1];
#endif
  int sum = 0;
  [[unroll]] for (uint k = 0u; k < 4u; ++k) {
    sum += PackedDot(first[k], subgroupShuffle(columns[0][k], lane), 0);
    sum += PackedDot(second[k], subgroupShuffle(columns[0][k], lane + 1u), 0);
  }
  return sum;
}

void main() {
  const uint workgroup = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint row = workgroup * GROUP + gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
  const uint first_token = gl_WorkGroupID.z * TOKENS;
  const uint lane = gl_SubgroupInvocationID % 8u;
  const WeightRow weights = FindRow(min(row, params.rows - 1u));
  float sums[TOKENS];
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) sums[t] = 0.0;
  for (uint first = 0u; first < params.groups; first += UNIT) {
    uvec4 blocks[UNIT][GROUP_BLOCKS];
    [[unroll]] for (uint g = 0u; g < UNIT; ++g) {
      [[unroll]] for (uint b = 0u; b < GROUP_BLOCKS; ++b)
        blocks[g][b] = weight_blocks[weights.block + (first + g) * GROUP_BLOCKS + b];
    }
    const uvec2 halves = scale_fours[(weights.scale + first) / UNIT];
    const vec4 scales = vec4(unpackHalf2x16(halves.x), unpackHalf2x16(halves.y));
    [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
      const uint token = first_token + t;
      uvec4 columns[2];
      Prepare(x[token * params.groups * 8u + first * 2u + lane], columns);
      const vec2 own = x_scales[(token * 4u + 1u) * params.groups * 4u + first + lane % UNIT];
      [[unroll]] for (uint g = 0u; g < UNIT; ++g) {
        float sum = float(GroupSum(blocks[g], columns, 2u * g)) * subgroupShuffle(own.x, g);
#if defined(WEIGHT_INT4)
        sum -= subgroupShuffle(own.y, g);
#endif
        sums[t] += scales[g] * sum;
      }
    }
  }
  const uint count = StepRows(COUNT);
  [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
    const uint token = first_token + t;
    if (row < params.rows && token < count)
      y[token * params.output_stride + params.output_offset + row] = sums[t];
  }
}
