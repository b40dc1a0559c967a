#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// One workgroup ends a half layer for one token: out = x + rmsnorm(branch) * weight. With NEXT_NORM
// it begins the next half too: normed = rmsnorm(out) * next_weight, as activations.glsl says. `out`
// may be the same memory as `x`. The branch is the sum of PARTS parts. With CHAINED what was in
// front may still run while weights are fetched (chain.glsl).
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 128;  // a power of two
layout(constant_id = 1) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 2) const uint OUTPUT_BASE = kBaseZero;
layout(constant_id = 3) const bool NEXT_NORM = false;
layout(constant_id = 4) const uint PARTS = 1;
// vectors of a lane: LANES times as many hold a row
layout(constant_id = 5) const uint VECS_EACH = 1;
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { PostNormParams params; CHAIN_LINK };
#define CHAIN_BINDING 7
#define CHAIN_CONSTANT 6
#include "gpu-worker/kernels/common/chain.glsl"
#define OUTPUT_BINDING 6
#include "gpu-worker/kernels/common/activations.glsl"
layout(std430, set = 0, binding = 1) HANDED_OVER readonly buffer Branch { vec4 branch[]; };
layout(std430, set = 0, binding = 2) readonly buffer Weight { vec4 weight[]; };
layout(std430, set = 0, binding = 3) HANDED_OVER readonly buffer Input { vec4 x[]; };
layout(std430, set = 0, binding = 4) HANDED_OVER writeonly buffer Output {
  vec4 residual[];
};
layout(std430, set = 0, binding = 5) readonly buffer NextWeight { vec4 next_weight[]; };

float InverseRms(float squares) {
  return 1.0 / sqrt(WorkgroupSum(squares) / float(params.hidden) + params.epsilon);
}

vec4 BranchVec(uint at) {
  vec4 sum = branch[at];
  for (uint p = 1u; p < PARTS; ++p) sum += branch[p * (params.part_stride / 4u) + at];
  return sum;
}

void main() {
  const uint token = gl_WorkGroupID.x;
  if (token >= step.tokens) {
    ChainSignal();
    return;
  }
  const uint vecs = params.hidden / 4u;
  const uint row = token * vecs;
  const uint from = ResidualBase(INPUT_BASE) / 4u + row;
  const uint to = ResidualBase(OUTPUT_BASE) / 4u + row;
  const uint lane = ActivationLane();
  // Everything is read before the first sum is waited for.
  vec4 factor[VECS_EACH];
  vec4 next_factor[VECS_EACH];
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = lane + v * LANES;
    factor[v] = i < vecs ? weight[i] : vec4(0.0);
    next_factor[v] = NEXT_NORM && i < vecs ? next_weight[i] : vec4(0.0);
  }
  ChainWait(ChainLook());
  vec4 added[VECS_EACH];
  vec4 before[VECS_EACH];
  float squares = 0.0;
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = lane + v * LANES;
    added[v] = i < vecs ? BranchVec(row + i) : vec4(0.0);
    before[v] = i < vecs ? x[from + i] : vec4(0.0);
    squares += dot(added[v], added[v]);
  }
  const float inverse = InverseRms(squares);
  squares = 0.0;
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = lane + v * LANES;
    added[v] = before[v] + added[v] * factor[v] * inverse;
    if (i < vecs) residual[to + i] = added[v];
    squares += dot(added[v], added[v]);
  }
  if (NEXT_NORM) {
    const float next_inverse = InverseRms(squares);
    [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
      const uint i = lane + v * LANES;
      const vec4 value = added[v] * next_factor[v] * next_inverse;
      if (i < vecs) StoreActivation(token, params.hidden, i, value, params.pad);
    }
  }
  ChainSignal();
}
