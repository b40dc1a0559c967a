// Two sums over a workgroup of LANES invocations (a power of two, SUM_PARTS or more), each grouped
// as WorkgroupSum of common/reduce.glsl groups it. Every invocation calls, once, and gets them.
const uint SUM_PARTS = 16u;
shared vec2 sum_scratch[LANES];
shared vec2 sum_parts[SUM_PARTS];

vec2 WorkgroupSums(vec2 value) {
  const uint lane = gl_LocalInvocationIndex;
  sum_scratch[lane] = value;
  barrier();
  if (lane < SUM_PARTS) {
    vec2 part = vec2(0.0);
    for (uint i = lane; i < LANES; i += SUM_PARTS) part += sum_scratch[i];
    sum_parts[lane] = part;
  }
  barrier();
  vec2 sum = vec2(0.0);
  for (uint i = 0u; i < SUM_PARTS; ++i) sum += sum_parts[i];
  return sum;
}
