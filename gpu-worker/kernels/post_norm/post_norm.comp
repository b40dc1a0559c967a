#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup ends a half layer for one token: out = x + rmsnorm(branch) * weight. With NEXT_NORM it begins the next half too:
// normed = rmsnorm(out) * next_weight, as activations.glsl says. `out` may be the same memory as `x`. The branch is the sum of PARTS parts.
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 128;  // a power of two
layout(constant_id = 1) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 2) const uint OUTPUT_BASE = kBaseZero;
layout(constant_id = 3) const bool NEXT_NORM = false;
layout(constant_id = 4) const uint PARTS = 1;
#include "gpu-worker/kernels/common/reduce.glsl"
#define OUTPUT_BINDING 6
#include "gpu-worker/kernels/common/activations.glsl"

layout(push_constant) uniform Push { PostNormParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Branch { vec4 branch[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { vec4 weight[]; };
layout(std430, set = 0, binding = 3) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 4) buffer Output { vec4 residual[]; };
layout(std430, set = 0, binding = 5) readonly buffer NextWeight { vec4 next_weight[]; };

float InverseRms(float squares) {
  return 1.0 / sqrt(WorkgroupSum(squares) / float(params.hidden) + params.epsilon);
}

vec4 BranchVec(uint at) {
  vec4 sum = branch[at];
  for (uint p = 1u; p < PARTS; ++p) sum += branch[p * (params.part_stride / 4u) + at];
  return sum;
}

void main() {
  const uint token = gl_WorkGroupID.x;
  if (token >= step.tokens) return;
  const uint vecs = params.hidden / 4u;
  const uint row = token * vecs;
  const uint from = ResidualBase(INPUT_BASE) / 4u + row;
  const uint to = ResidualBase(OUTPUT_BASE) / 4u + row;
  float squares = 0.0;
  const uint lane = ActivationLane();
  for (uint i = lane; i < vecs; i += LANES) {
    const vec4 value = BranchVec(row + i);
    squares += dot(value, value);
  }
  const float inverse = InverseRms(squares);
  squares = 0.0;
  for (uint i = lane; i < vecs; i += LANES) {
    const vec4 sum = x[from + i] + BranchVec(row + i) * inverse * weight[i];
    residual[to + i] = sum;  // read again below by this same invocation
    squares += dot(sum, sum);
  }
  if (!NEXT_NORM) return;
  const float next_inverse = InverseRms(squares);
  for (uint i = lane; i < vecs; i += LANES) {
    StoreActivation(token, params.hidden, i, residual[to + i] * next_inverse * next_weight[i], params.pad);
  }
}
