// The end of a product that makes what a half layer adds: the workgroup that ends last does for the
// token what post_norm.comp does. Nobody waits: workgroups count themselves, and the count is 0
// again when the dispatch ends. Needs `y` (coherent), GROUP and Index().
#include "gpu-worker/kernels/decode/decode_params.h"

layout(constant_id = 5) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 6) const uint OUTPUT_BASE = kBaseZero;
layout(constant_id = 7) const bool NEXT_NORM = false;
layout(constant_id = 8) const uint VECS_EACH = 1;  // GROUP times as many hold a row
layout(std430, set = 0, binding = 3) coherent buffer Branch { vec4 branch[]; };
layout(std430, set = 0, binding = 5) readonly buffer Weight { vec4 weight[]; };
layout(std430, set = 0, binding = 6) readonly buffer ResidualIn { vec4 residual_in[]; };
layout(std430, set = 0, binding = 7) writeonly buffer ResidualOut { vec4 residual_out[]; };
layout(std430, set = 0, binding = 8) readonly buffer NextWeight { vec4 next_weight[]; };
#define OUTPUT_BINDING 9
#include "gpu-worker/kernels/common/activations.glsl"
layout(std430, set = 0, binding = 10) coherent buffer Counters { uint counters[]; };

shared uint arrived;
shared float subgroup_sums[GROUP / 8u];

float GroupSum(float value) {
  for (uint other = gl_SubgroupSize / 2u; other > 0u; other /= 2u)
    value += subgroupShuffleXor(value, other);
  if (gl_SubgroupInvocationID == 0u) subgroup_sums[gl_SubgroupID] = value;
  barrier();
  float sum = 0.0;
  for (uint i = 0u; i < gl_NumSubgroups; ++i) sum += subgroup_sums[i];
  barrier();
  return sum;
}

float InverseRms(float squares, uint hidden) {
  return 1.0 / sqrt(GroupSum(squares) / float(hidden) + uintBitsToFloat(params.part_stride));
}

// Every invocation calls, when it has written its rows of `y`.
void PostNorm() {
  memoryBarrierBuffer();
  barrier();
  if (Index() == 0u) arrived = atomicAdd(counters[kProductCounter], 1u);
  barrier();
  if (arrived + 1u < gl_NumWorkGroups.x * gl_NumWorkGroups.y) return;
  memoryBarrierBuffer();
  const uint hidden = params.output_stride;
  const uint vecs = hidden / 4u;
  const uint from = ResidualBase(INPUT_BASE) / 4u;
  const uint to = ResidualBase(OUTPUT_BASE) / 4u;
  vec4 added[VECS_EACH];
  vec4 before[VECS_EACH];
  float squares = 0.0;
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = Index() + v * GROUP;
    added[v] = i < vecs ? branch[i] : vec4(0.0);
    before[v] = i < vecs ? residual_in[from + i] : vec4(0.0);
    squares += dot(added[v], added[v]);
  }
  const float inverse = InverseRms(squares, hidden);
  squares = 0.0;
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = Index() + v * GROUP;
    added[v] = before[v] + added[v] * inverse * (i < vecs ? weight[i] : vec4(0.0));
    if (i < vecs) residual_out[to + i] = added[v];
    squares += dot(added[v], added[v]);
  }
  if (NEXT_NORM) {
    const float next_inverse = InverseRms(squares, hidden);
    [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
      const uint i = Index() + v * GROUP;
      if (i < vecs) StoreActivation(0u, hidden, i, added[v] * next_inverse * next_weight[i], 0u);
    }
  }
  if (Index() == 0u) counters[kProductCounter] = 0u;
}
