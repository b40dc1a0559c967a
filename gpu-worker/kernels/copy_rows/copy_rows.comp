#version 460
#extension GL_GOOGLE_include_directive : require
// Copies the rows of a step's tokens between a slot of an edge's ring and a buffer of the stage's
// own. A workgroup takes a part of one row.
#include "gpu-worker/kernels/copy_rows/copy_rows_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x = 128) in;
layout(constant_id = 0) const uint FROM_BASE = kBaseZero;
layout(constant_id = 1) const uint TO_BASE = kBaseZero;

layout(push_constant) uniform Push { CopyRowsParams params; };
layout(std430, set = 0, binding = 1) readonly buffer From { vec4 from[]; };
layout(std430, set = 0, binding = 2) writeonly buffer To { vec4 to[]; };

void main() {
  const uint row = gl_WorkGroupID.y;
  const uint vecs = params.columns / 4u;
  const uint i = gl_GlobalInvocationID.x;
  if (row >= step.tokens || i >= vecs) return;
  to[ResidualBase(TO_BASE) / 4u + row * vecs + i] =
      from[ResidualBase(FROM_BASE) / 4u + row * vecs + i];
}
