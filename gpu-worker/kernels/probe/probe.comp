#version 460
#extension GL_GOOGLE_include_directive : require
// A small piece of work whose answer the host knows: numbers[i] becomes the sum of all numbers
// times (i + 1), plus the seed.
#include "gpu-worker/kernels/probe/probe_params.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform Push { ProbeParams params; };
layout(std430, set = 0, binding = 0) buffer Numbers { uint numbers[64]; };

shared uint copies[64];

void main() {
  const uint lane = gl_LocalInvocationIndex;
  copies[lane] = numbers[lane];
  barrier();
  uint sum = 0u;
  for (uint i = 0u; i < 64u; ++i) sum += copies[i];
  numbers[lane] = sum * (lane + 1u) + params.seed;
}
