#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// One workgroup sums up one block of one row of logits: the largest one, of the block and of its
// parts, and the sums of exp(logit - largest), as it is and with the row's temperature. A block
// with a NaN or an infinity above says so by a sum of -1.
#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 64;  // a power of two, kLogitParts or more
layout(constant_id = 1) const uint HELD = 1;    // logits of a lane that stay in registers
#define REDUCED vec2
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { CandidatesParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Logits { float logits[]; };
// (rows, blocks, kLogitBlockFloats)
layout(std430, set = 0, binding = 2) writeonly buffer Blocks { float of_block[]; };

const float LOWEST = -3.4e38;
// Of parts without a number: less than any block's.
const float NONE = -3.4028234e38;
// That are left when every lane looks at all of them.
const uint LAST = 8u;
const uint NEGATIVE_INFINITY = 0xff800000u;

shared float largest_of[LANES];
shared bool any_broken;

bool IsNumber(float value) { return (floatBitsToUint(value) & 0x7f800000u) != 0x7f800000u; }

void Look(float value, inout float largest, inout bool broken) {
  if (IsNumber(value)) {
    largest = max(largest, value);
  } else {
    broken = broken || floatBitsToUint(value) != NEGATIVE_INFINITY;
  }
}

// To the sum as it is, and to that with the temperature.
void Add(float value, float largest, float inverse, inout vec2 sums) {
  if (IsNumber(value)) sums += vec2(exp(value - largest), exp((value - largest) * inverse));
}

void main() {
  const uint block = gl_WorkGroupID.x;
  const uint row = gl_WorkGroupID.y;
  const uint lane = gl_LocalInvocationIndex;
  const uint end = row * params.vocab + min((block + 1u) * params.block, params.vocab);
  const uint begin = row * params.vocab + block * params.block + lane;
  // Fetched before it is known whether the step has the row.
  float held[HELD];
  [[unroll]] for (uint l = 0u; l < HELD; ++l) {
    const uint i = begin + l * LANES;
    held[l] = i < end ? logits[i] : uintBitsToFloat(NEGATIVE_INFINITY);
  }
  if (row >= step.logit_rows) return;
  const float inverse = uintBitsToFloat(step_words[step.inverse_temperatures_at + row]);
  const uint rest = begin + HELD * LANES;
  float largest = NONE;
  bool broken = false;
  [[unroll]] for (uint l = 0u; l < HELD; ++l) Look(held[l], largest, broken);
  for (uint i = rest; i < end; i += LANES) Look(logits[i], largest, broken);
  largest_of[lane] = largest;
  const uint to = (row * params.blocks + block) * kLogitBlockFloats;
  if (lane == 0u) any_broken = false;
  barrier();
  if (broken) any_broken = true;
  for (uint other = LANES / 2u; other >= LAST; other /= 2u) {
    // What is left are the parts.
    if (2u * other == kLogitParts && lane < kLogitParts)
      of_block[to + 4u + lane] = largest_of[lane];
    if (lane < other) largest_of[lane] = max(largest_of[lane], largest_of[lane + other]);
    barrier();
  }
  largest = LOWEST;
  for (uint i = 0u; i < LAST; ++i) largest = max(largest, largest_of[i]);
  vec2 sums = vec2(0.0);
  [[unroll]] for (uint l = 0u; l < HELD; ++l) Add(held[l], largest, inverse, sums);
  for (uint i = rest; i < end; i += LANES) Add(logits[i], largest, inverse, sums);
  sums = WorkgroupSum(sums);
  if (lane != 0u) return;
  of_block[to] = largest;
  of_block[to + 1u] = any_broken ? -1.0 : sums.x;
  of_block[to + 2u] = sums.y;
  of_block[to + 3u] = 0.0;
}
