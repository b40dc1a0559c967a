#version 460
#extension GL_GOOGLE_include_directive : require
// output = gelu_tanh(gate) * up * output_scale, four elements an invocation, as activations.glsl
// says.
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/common/step.glsl"
#include "gpu-worker/kernels/geglu/geglu.glsl"
#define OUTPUT_BINDING 2
#include "gpu-worker/kernels/common/activations.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Push { GegluParams params; };
// a row: gate, then up
layout(std430, set = 0, binding = 1) readonly buffer GateUp { vec4 gate_up[]; };

void main() {
  const uint vecs = params.ffn / 4u;
  const uint i = gl_WorkGroupID.x * 128u + ActivationLane();
  const uint token = gl_WorkGroupID.y;
  if (token >= step.tokens || i >= vecs) return;
  const vec4 value =
      Geglu(gate_up[2u * token * vecs + i], gate_up[(2u * token + 1u) * vecs + i]);
  StoreActivation(token, params.ffn, i, value * params.output_scale, params.pad);
}
