#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup normalises one row: out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight. With
// ROWS = kRowsAreLogits row r is the token that logit row r names. The rows come out as
// activations.glsl says.
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 128;  // a power of two
layout(constant_id = 1) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 2) const uint ROWS = kRowsAreTokens;
#include "gpu-worker/kernels/common/reduce.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"

layout(push_constant) uniform Push { RmsNormParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { vec4 weight[]; };

void main() {
  const uint row = gl_WorkGroupID.x;
  if (row >= StepRows(ROWS)) return;
  const uint token = ROWS == kRowsAreLogits ? step_words[step.logit_rows_at + row] : row;
  const uint vecs = params.hidden / 4u;
  const uint from = ResidualBase(INPUT_BASE) / 4u + token * vecs;
  float squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < vecs; i += LANES)
    squares += dot(x[from + i], x[from + i]);
  const float mean = WorkgroupSum(squares) / float(params.hidden);
  const float inverse = 1.0 / sqrt(mean + params.epsilon);
  for (uint i = ActivationLane(); i < vecs; i += LANES) {
    StoreActivation(row, params.hidden, i, x[from + i] * inverse * weight[i], params.pad);
  }
}
