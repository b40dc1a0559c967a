#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup normalises one row: out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight. With ROWS = kRowsAreLogits row r is the token
// that logit row r names.
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

const uint LANES = 128u;
layout(local_size_x = 128) in;
layout(constant_id = 0) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 1) const uint ROWS = kRowsAreTokens;
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { RmsNormParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Input { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { float weight[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float normed[]; };

void main() {
  const uint row = gl_WorkGroupID.x;
  if (row >= StepRows(ROWS)) return;
  const uint token = ROWS == kRowsAreLogits ? step_words[step.logit_rows_at + row] : row;
  const uint from = ResidualBase(INPUT_BASE) + token * params.hidden;
  float squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < params.hidden; i += LANES) {
    squares += x[from + i] * x[from + i];
  }
  const float mean = WorkgroupSum(squares) / float(params.hidden);
  const float inverse = 1.0 / sqrt(mean + params.epsilon);
  for (uint i = gl_LocalInvocationIndex; i < params.hidden; i += LANES) {
    normed[row * params.hidden + i] = x[from + i] * inverse * weight[i];
  }
}
