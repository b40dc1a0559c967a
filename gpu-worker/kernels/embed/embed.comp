#version 460
#extension GL_GOOGLE_include_directive : require
// One workgroup looks one token up: out[t] = matrix[token id of t] * scale, in float32. Tokens of
// other chunks are left alone.
#include "gpu-worker/kernels/embed/embed_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define VALUES_BINDING 1
#define SCALES_BINDING 3
#include "gpu-worker/kernels/common/weights.glsl"

const uint LANES = 128u;
layout(local_size_x = LANES) in;
layout(constant_id = 0) const uint OUTPUT_BASE = kBaseZero;

layout(push_constant) uniform Push { EmbedParams params; };
layout(std430, set = 0, binding = 2) writeonly buffer Output { vec4 residual[]; };

void main() {
  const uint token = gl_WorkGroupID.x;
  if (token >= step.tokens) return;
  const uint row = step_words[step.token_ids_at + token] - params.first_row;
  if (row >= params.rows) return;  // wraps below the chunk
  const uint blocks = params.hidden / (4u * BLOCK_VECS);
  const uint base = ResidualBase(OUTPUT_BASE) / 4u + token * (params.hidden / 4u);
  for (uint block = gl_LocalInvocationIndex; block < blocks; block += LANES) {
    const uint at = row * blocks + block;
    const uvec4 raw = weight_blocks[at];
    const float weight_scale = BlockScale(at);
    for (uint q = 0u; q < BLOCK_VECS; ++q) {
      residual[base + block * BLOCK_VECS + q] = DecodeVec(raw, q) * weight_scale * params.scale;
    }
  }
}
