#version 460
#extension GL_GOOGLE_include_directive : require
// gate = gelu_tanh(gate) * up, element by element. gelu_tanh(x) = x/2 * (1 + tanh(u)) = x / (1 + exp(-2u)) with
// u = sqrt(2/pi) * (x + 0.044715 x^3): no tanh, whose error Vulkan does not bound, and no overflow to NaN.
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x = 128) in;
layout(push_constant) uniform Push { GegluParams params; };
layout(std430, set = 0, binding = 1) buffer Gate { float gate[]; };
layout(std430, set = 0, binding = 2) readonly buffer Up { float up[]; };

void main() {
  const uint column = gl_GlobalInvocationID.x;
  const uint token = gl_WorkGroupID.y;
  if (token >= step.tokens || column >= params.ffn) return;
  const uint at = token * params.ffn + column;
  const float x = gate[at];
  const float u = 0.79788456080286536 * (x + 0.044715 * x * x * x);
  gate[at] = x / (1.0 + exp(-2.0 * u)) * up[at];
}
