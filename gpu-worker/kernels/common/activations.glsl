// How a kernel hands a row of activations to the product that follows, at binding OUTPUT_BINDING.
// One of ACT_Q8 and ACT_F16 is defined, or neither. A row of C columns takes the room of C floats
// (or of ACT_F16_ROWS tokens in halves) in every form:
//
// float32: row t at float t * C.
// ACT_Q8:  row t at byte 4 * t * C: C signed bytes in the columns' order; behind them for every
//          group of 32 columns two floats, the scale s (largest magnitude / 127) and 8 * s * (sum
//          of the group's bytes), which int4 weights need: their nibbles are 8 too large.
// ACT_F16: for matrix fragments. 16-byte slots [C / 128][PAD / 8][word 0..3][token 0..7][group
//          0..3], so that the lanes of a subgroup find theirs side by side: a slot holds eight
//          halves of group 4c + group, the columns 4w, 4w + 2, 4w + 1, 4w + 3 and the same 16
//          higher: the order in which one word of int4 weights is decoded. PAD, a multiple of 8, is
//          the number of tokens that there is room for.
//
// StoreActivation(row, cols, i, value, pad): columns 4i to 4i + 3. With ACT_Q8 eight neighbouring
// lanes call it together for the eight vectors of a group, so lanes are numbered by subgroup
// (ActivationLane).
#ifndef HANDED_OVER
#define HANDED_OVER  // of chain.glsl
#endif
#if defined(ACT_Q8)
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
layout(std430, set = 0, binding = OUTPUT_BINDING) HANDED_OVER writeonly buffer ActivationBytes {
  uint activation_bytes[];
};
layout(std430, set = 0, binding = OUTPUT_BINDING) HANDED_OVER writeonly buffer ActivationScales {
  vec2 activation_scales[];
};

uint ActivationLane() { return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID; }

void StoreActivation(uint row, uint cols, uint i, vec4 value, uint pad) {
  const vec4 size = abs(value);
  float largest = max(max(size.x, size.y), max(size.z, size.w));
  largest = max(largest, subgroupShuffleXor(largest, 1u));
  largest = max(largest, subgroupShuffleXor(largest, 2u));
  largest = max(largest, subgroupShuffleXor(largest, 4u));
  const float scale = largest / 127.0;
  const ivec4 rounded = ivec4(roundEven(value * (largest > 0.0 ? 127.0 / largest : 0.0)));
  int sum = rounded.x + rounded.y + rounded.z + rounded.w;
  sum += subgroupShuffleXor(sum, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  sum += subgroupShuffleXor(sum, 4u);
  const uvec4 bytes = uvec4(rounded) & 255u;
  activation_bytes[row * cols + i] = bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
  if (i % 8u == 0u)
    activation_scales[row * (cols / 2u) + cols / 8u + i / 8u] =
        vec2(scale, 8.0 * scale * float(sum));
}
#elif defined(ACT_F16)
layout(std430, set = 0, binding = OUTPUT_BINDING) HANDED_OVER writeonly buffer ActivationHalves {
  uvec2 activation_halves[];
};

uint ActivationLane() { return gl_LocalInvocationIndex; }

void StoreActivation(uint row, uint cols, uint i, vec4 value, uint pad) {
  const uint group = i / 8u;
  const uint word = i % 4u;
  const vec4 fits = clamp(value, -65504.0, 65504.0);
  const uint eight = group / 4u * (pad / 8u) + row / 8u;
  const uint slot = (eight * 4u + word) * 32u + row % 8u * 4u + group % 4u;
  activation_halves[2u * slot + i / 4u % 2u] = uvec2(packHalf2x16(fits.xz), packHalf2x16(fits.yw));
}
#else
layout(std430, set = 0, binding = OUTPUT_BINDING) HANDED_OVER writeonly buffer Activations {
  vec4 activations[];
};

uint ActivationLane() { return gl_LocalInvocationIndex; }

void StoreActivation(uint row, uint cols, uint i, vec4 value, uint pad) {
  activations[row * (cols / 4u) + i] = value;
}
#endif
