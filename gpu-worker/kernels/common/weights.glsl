// Weight matrices in 16-byte blocks along the input dimension. One of WEIGHT_BF16, WEIGHT_INT8,
// WEIGHT_INT4 is defined, and VALUES_BINDING and SCALES_BINDING say where the planes are bound.
// Formats: lib/weights/format.h.
//
// BLOCK_VECS: groups of four weights in a block. DecodeVec(raw, q): weights 4q..4q+3 of a block,
//             without its scale.

layout(std430, set = 0, binding = VALUES_BINDING) readonly buffer WeightValues {
  uvec4 weight_blocks[];
};

#if defined(WEIGHT_BF16)
const uint BLOCK_VECS = 2u;

vec4 DecodeVec(uvec4 raw, uint q) {
  const uvec2 pair = q == 0u ? raw.xy : raw.zw;
  return uintBitsToFloat(
      uvec4(pair.x << 16, pair.x & 0xffff0000u, pair.y << 16, pair.y & 0xffff0000u));
}

float BlockScale(uint block) { return 1.0; }

#else
layout(std430, set = 0, binding = SCALES_BINDING) readonly buffer WeightScales {
  uint weight_scales[];
};

float GroupScale(uint group) {
  const vec2 pair = unpackHalf2x16(weight_scales[group >> 1]);
  return (group & 1u) == 0u ? pair.x : pair.y;
}

// value - bias for values below 2^23, exactly: as the low bits of the float 2^23, which costs an or
// and a subtraction where a conversion runs at a quarter of their rate or less.
vec4 SmallToFloat(uvec4 value, float bias) {
  return uintBitsToFloat(value | 0x4b000000u) - (8388608.0 + bias);
}

#if defined(WEIGHT_INT8)
const uint BLOCK_VECS = 4u;

vec4 DecodeVec(uvec4 raw, uint q) {
  const uint word = raw[q] ^ 0x80808080u;  // -128..127 become 0..255
  return SmallToFloat(uvec4(word, word >> 8, word >> 16, word >> 24) & 255u, 128.0);
}

// two blocks of 16 in a group of 32
float BlockScale(uint block) { return GroupScale(block >> 1); }

#elif defined(WEIGHT_INT4)
const uint BLOCK_VECS = 8u;

vec4 DecodeVec(uvec4 raw, uint q) {
  // Columns 0-15 are the low nibbles of the 16 bytes, columns 16-31 the high ones.
  const uint word = raw[q & 3u] >> (q < 4u ? 0u : 4u);
  return SmallToFloat(uvec4(word, word >> 8, word >> 16, word >> 24) & 15u, 8.0);
}

float BlockScale(uint block) { return GroupScale(block); }

#else
#error "one of WEIGHT_BF16, WEIGHT_INT8, WEIGHT_INT4 must be defined"
#endif
#endif
