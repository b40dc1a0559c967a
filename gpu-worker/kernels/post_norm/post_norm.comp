#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup ends a half layer for one token: out = x + rmsnorm(branch) * weight. With NEXT_NORM it begins the next half too:
// normed = rmsnorm(out) * next_weight. `out` may be the same memory as `x`.
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 128;  // a power of two
layout(constant_id = 1) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 2) const uint OUTPUT_BASE = kBaseZero;
layout(constant_id = 3) const bool NEXT_NORM = false;
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { PostNormParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Branch { vec4 branch[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { vec4 weight[]; };
layout(std430, set = 0, binding = 3) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 4) writeonly buffer Output { vec4 residual[]; };
layout(std430, set = 0, binding = 5) readonly buffer NextWeight { vec4 next_weight[]; };
layout(std430, set = 0, binding = 6) buffer Normed { vec4 normed[]; };

float InverseRms(float squares) {
  return 1.0 / sqrt(WorkgroupSum(squares) / float(params.hidden) + params.epsilon);
}

void main() {
  const uint token = gl_WorkGroupID.x;
  if (token >= step.tokens) return;
  const uint vecs = params.hidden / 4u;
  const uint row = token * vecs;
  const uint from = ResidualBase(INPUT_BASE) / 4u + row;
  const uint to = ResidualBase(OUTPUT_BASE) / 4u + row;
  float squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < vecs; i += LANES) {
    squares += dot(branch[row + i], branch[row + i]);
  }
  const float inverse = InverseRms(squares);
  squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < vecs; i += LANES) {
    const vec4 sum = x[from + i] + branch[row + i] * inverse * weight[i];
    residual[to + i] = sum;
    if (NEXT_NORM) {
      normed[row + i] = sum;  // read again below by this same invocation
      squares += dot(sum, sum);
    }
  }
  if (!NEXT_NORM) return;
  const float next_inverse = InverseRms(squares);
  for (uint i = gl_LocalInvocationIndex; i < vecs; i += LANES) {
    normed[row + i] = normed[row + i] * next_inverse * next_weight[i];
  }
}
