#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup sums up one block of one row of logits: the largest one, and the sums of
// exp(logit - largest), as it is and with the row's temperature. A block with a NaN or an infinity
// above says so by a sum of -1.
#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 64;  // a power of two, 16 or more
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { CandidatesParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Logits { float logits[]; };
// (rows, blocks): largest, sum, scaled sum.
layout(std430, set = 0, binding = 2) writeonly buffer Blocks { vec4 of_block[]; };

const float LOWEST = -3.4e38;

shared float largest_of[LANES];

void main() {
  const uint block = gl_WorkGroupID.x;
  const uint row = gl_WorkGroupID.y;
  if (row >= step.logit_rows) return;
  const uint lane = gl_LocalInvocationIndex;
  const uint end = row * params.vocab + min((block + 1u) * params.block, params.vocab);
  const uint begin = row * params.vocab + block * params.block + lane;
  float largest = LOWEST;
  float broken = 0.0;
  for (uint i = begin; i < end; i += LANES) {
    const uint bits = floatBitsToUint(logits[i]);
    if ((bits & 0x7f800000u) == 0x7f800000u) {
      broken += bits == 0xff800000u ? 0.0 : 1.0;
    } else {
      largest = max(largest, logits[i]);
    }
  }
  largest_of[lane] = largest;
  barrier();
  for (uint other = LANES / 2u; other > 0u; other /= 2u) {
    if (lane < other) largest_of[lane] = max(largest_of[lane], largest_of[lane + other]);
    barrier();
  }
  largest = largest_of[0];
  const float inverse = uintBitsToFloat(step_words[step.inverse_temperatures_at + row]);
  float sum = 0.0;
  float scaled = 0.0;
  for (uint i = begin; i < end; i += LANES) {
    if ((floatBitsToUint(logits[i]) & 0x7f800000u) == 0x7f800000u) continue;
    sum += exp(logits[i] - largest);
    scaled += exp((logits[i] - largest) * inverse);
  }
  sum = WorkgroupSum(sum);
  scaled = WorkgroupSum(scaled);
  broken = WorkgroupSum(broken);
  if (lane == 0u)
    of_block[row * params.blocks + block] =
        vec4(largest, broken == 0.0 ? sum : -1.0, scaled, 0.0);
}
