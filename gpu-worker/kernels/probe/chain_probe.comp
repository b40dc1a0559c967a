#version 460
#extension GL_GOOGLE_include_directive : require
// A link of a chain whose answer the host knows: each number becomes five times itself, plus one of
// another workgroup, plus the seed.
#include "gpu-worker/kernels/probe/probe_params.h"

layout(local_size_x = 64) in;
layout(push_constant) uniform Push { ProbeParams params; CHAIN_LINK };
#define CHAIN_BINDING 2
#define CHAIN_CONSTANT 0
#include "gpu-worker/kernels/common/chain.glsl"
layout(std430, set = 0, binding = 0) HANDED_OVER readonly buffer From { uint from[]; };
layout(std430, set = 0, binding = 1) HANDED_OVER writeonly buffer To { uint to[]; };

void main() {
  const uint count = gl_NumWorkGroups.x * 64u;
  const uint i = gl_GlobalInvocationID.x;
  ChainWait(ChainLook());
  to[i] = from[i] * 5u + from[(i * 17u + 1856u) % count] + params.seed;
  ChainSignal();
}
