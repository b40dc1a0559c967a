#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Copies blocks of 16 bytes: what the device's memory gives to a kernel, measured beside the
// others. An invocation takes four blocks, a workgroup apart from each other.
#include "gpu-worker/kernels/copy/copy_params.h"

const uint GROUP = 128u;
layout(local_size_x = 128) in;
layout(push_constant) uniform Push { CopyParams params; };
layout(std430, set = 0, binding = 0) readonly buffer From { uvec4 from[]; };
layout(std430, set = 0, binding = 1) writeonly buffer To { uvec4 to[]; };

void main() {
  const uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  const uint first = group * GROUP * 4u + gl_LocalInvocationIndex;
  uvec4 blocks[4];
  [[unroll]] for (uint i = 0u; i < 4u; ++i) blocks[i] =
      from[min(first + i * GROUP, params.blocks - 1u)];
  [[unroll]] for (uint i = 0u; i < 4u; ++i) {
    if (first + i * GROUP < params.blocks) to[first + i * GROUP] = blocks[i];
  }
}
