#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup ends a half layer for one token: out = x + rmsnorm(branch) * weight. With NEXT_NORM it begins the next half too:
// normed = rmsnorm(out) * next_weight. `out` may be the same memory as `x`.
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

const uint LANES = 128u;
layout(local_size_x = 128) in;
layout(constant_id = 0) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 1) const uint OUTPUT_BASE = kBaseZero;
layout(constant_id = 2) const bool NEXT_NORM = false;
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { PostNormParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Branch { float branch[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { float weight[]; };
layout(std430, set = 0, binding = 3) readonly buffer Input { float x[]; };
layout(std430, set = 0, binding = 4) writeonly buffer Output { float residual[]; };
layout(std430, set = 0, binding = 5) readonly buffer NextWeight { float next_weight[]; };
layout(std430, set = 0, binding = 6) buffer Normed { float normed[]; };

float InverseRms(float squares) {
  return 1.0 / sqrt(WorkgroupSum(squares) / float(params.hidden) + params.epsilon);
}

void main() {
  const uint token = gl_WorkGroupID.x;
  if (token >= step.tokens) return;
  const uint row = token * params.hidden;
  const uint from = ResidualBase(INPUT_BASE) + row;
  const uint to = ResidualBase(OUTPUT_BASE) + row;
  float squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < params.hidden; i += LANES) {
    squares += branch[row + i] * branch[row + i];
  }
  const float inverse = InverseRms(squares);
  squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < params.hidden; i += LANES) {
    const float sum = x[from + i] + branch[row + i] * inverse * weight[i];
    residual[to + i] = sum;
    if (NEXT_NORM) {
      normed[row + i] = sum;  // read again below by this same invocation
      squares += sum * sum;
    }
  }
  if (!NEXT_NORM) return;
  const float next_inverse = InverseRms(squares);
  for (uint i = gl_LocalInvocationIndex; i < params.hidden; i += LANES) {
    normed[row + i] = normed[row + i] * next_inverse * next_weight[i];
  }
}
