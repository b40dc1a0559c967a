// Sums over a workgroup of LANES invocations (a power of two, 16 or more). Every invocation calls,
// and gets the sum; calls may follow one another. REDUCED, where it is defined, is a vector type of
// which every component is summed by itself; not with ACT_Q8 or ACT_F16.
#if defined(ACT_Q8) || defined(ACT_F16)
// Devices that take such activations have shuffles, and whole subgroups of 8 or more.
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
shared float reduce_parts[LANES / 8u];

float WorkgroupSum(float value) {
  for (uint other = gl_SubgroupSize / 2u; other > 0u; other /= 2u)
    value += subgroupShuffleXor(value, other);
  if (gl_SubgroupInvocationID == 0u) reduce_parts[gl_SubgroupID] = value;
  barrier();
  float sum = 0.0;
  for (uint i = 0u; i < gl_NumSubgroups; ++i) sum += reduce_parts[i];
  barrier();
  return sum;
}
#else
#ifndef REDUCED
#define REDUCED float
#endif
const uint REDUCE_PARTS = 16u;
shared REDUCED reduce_scratch[LANES];
shared REDUCED reduce_parts[REDUCE_PARTS];

REDUCED WorkgroupSum(REDUCED value) {
  const uint lane = gl_LocalInvocationIndex;
  reduce_scratch[lane] = value;
  barrier();
  // Two steps of many terms cost less than one barrier for each halving.
  if (lane < REDUCE_PARTS) {
    REDUCED part = REDUCED(0.0);
    for (uint i = lane; i < LANES; i += REDUCE_PARTS) part += reduce_scratch[i];
    reduce_parts[lane] = part;
  }
  barrier();
  REDUCED sum = REDUCED(0.0);
  for (uint i = 0u; i < REDUCE_PARTS; ++i) sum += reduce_parts[i];
  barrier();
  return sum;
}
#endif
