// Where a row of up to three matrices lies (ProductParams). One of WEIGHT_BF16, WEIGHT_INT8 and
// WEIGHT_INT4 is defined. Bindings 1 and 4 are values and scales (bf16 has none); both may be the
// same memory.
layout(std430, set = 0, binding = 1) readonly buffer WeightValues { uvec4 weight_blocks[]; };
#if !defined(WEIGHT_BF16)
layout(std430, set = 0, binding = 4) readonly buffer WeightScales { uint weight_scales[]; };
#endif

#if defined(WEIGHT_INT4)
const uint GROUP_BLOCKS = 1u;  // 16-byte blocks of a group of 32 columns
#elif defined(WEIGHT_INT8)
const uint GROUP_BLOCKS = 2u;
#elif defined(WEIGHT_BF16)
const uint GROUP_BLOCKS = 4u;
#else
#error "one of WEIGHT_BF16, WEIGHT_INT8, WEIGHT_INT4 must be defined"
#endif

struct WeightRow {
  uint block;  // the first
  uint scale;  // the first, in halves
};

WeightRow FindRow(uint row) {
  uint first = 0u;
  uint values = params.values_a;
  uint scales = params.scales_a;
  if (row >= params.third_row) {
    first = params.third_row;
    values = params.values_c;
    scales = params.scales_c;
  } else if (row >= params.second_row) {
    first = params.second_row;
    values = params.values_b;
    scales = params.scales_b;
  }
  const uint groups = (row - first) * params.groups;
  return WeightRow(values + groups * GROUP_BLOCKS, scales + groups);
}

#if defined(WEIGHT_BF16)
float GroupScale(uint at) { return 1.0; }
#else
float GroupScale(uint at) {
  const vec2 pair = unpackHalf2x16(weight_scales[at >> 1]);
  return (at & 1u) == 0u ? pair.x : pair.y;
}
#endif
