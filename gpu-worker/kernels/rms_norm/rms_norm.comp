#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// One workgroup normalises one row: out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight. With
// ROWS = kRowsAreLogits row r is the token that logit row r names. The rows come out as
// activations.glsl says.
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 128;  // a power of two
layout(constant_id = 1) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 2) const uint ROWS = kRowsAreTokens;
// vectors of a lane: LANES times as many hold a row
layout(constant_id = 3) const uint VECS_EACH = 1;
#include "gpu-worker/kernels/common/reduce.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"

layout(push_constant) uniform Push { RmsNormParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { vec4 weight[]; };

void main() {
  const uint row = gl_WorkGroupID.x;
  const uint lane = ActivationLane();
  const uint vecs = params.hidden / 4u;
  // Everything is read before the sum is waited for; weights are those of every row.
  vec4 factor[VECS_EACH];
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = lane + v * LANES;
    factor[v] = i < vecs ? weight[i] : vec4(0.0);
  }
  if (row >= StepRows(ROWS)) return;
  const uint token = ROWS == kRowsAreLogits ? step_words[step.logit_rows_at + row] : row;
  const uint from = ResidualBase(INPUT_BASE) / 4u + token * vecs;
  vec4 value[VECS_EACH];
  float squares = 0.0;
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = lane + v * LANES;
    value[v] = i < vecs ? x[from + i] : vec4(0.0);
    squares += dot(value[v], value[v]);
  }
  const float mean = WorkgroupSum(squares) / float(params.hidden);
  const float inverse = 1.0 / sqrt(mean + params.epsilon);
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = lane + v * LANES;
    if (i < vecs)
      StoreActivation(row, params.hidden, i, value[v] * inverse * factor[v], params.pad);
  }
}
