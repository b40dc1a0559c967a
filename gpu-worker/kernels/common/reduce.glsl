// Sums over a workgroup of LANES invocations (a power of two). Every invocation calls, and gets the sum; calls may follow one another.
shared float reduce_scratch[LANES];

float WorkgroupSum(float value) {
  const uint lane = gl_LocalInvocationIndex;
  reduce_scratch[lane] = value;
  barrier();
  for (uint half_lanes = LANES / 2u; half_lanes > 0u; half_lanes /= 2u) {
    if (lane < half_lanes) reduce_scratch[lane] += reduce_scratch[lane + half_lanes];
    barrier();
  }
  const float sum = reduce_scratch[0];
  barrier();
  return sum;
}
