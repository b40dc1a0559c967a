#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_spirv_intrinsics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
// Matrices times the vector of a step's only token, with packed dot products, by as many workgroups
// as the device runs at once: each has a share of the rows, and PARTS subgroups take one row after
// another of it, with the next row's weights always on their way. The first ones are, too, while
// each workgroup ends the half layer in front for itself (post_norm.comp): out = x +
// rmsnorm(branch) * weight, which the first workgroup writes, and rmsnorm(out) * next_weight, which
// stays in shared memory as 8-bit activations. `out` is never the memory of `x`.
//
// With GEGLU the first matrix is the gate, the second up, of as many rows, a multiple of 32, and
// what leaves is gelu(gate) * up as 8-bit activations of the next product. With PLAIN nothing ends
// in front: the vector comes as 8-bit activations (ACT_Q8 of activations.glsl). With CHAINED
// (chain.glsl) what was in front may still run while the first weights are fetched.
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 64;      // a multiple of PARTS * SUBGROUP
layout(constant_id = 1) const uint SUBGROUP = 8;
layout(constant_id = 2) const uint GROUPS = 8;      // of 32 columns, a multiple of PARTS
layout(constant_id = 3) const uint PARTS = 1;
layout(constant_id = 4) const uint LOADS = 1;       // groups of a lane
layout(constant_id = 5) const uint MOST_ROWS = 64;  // of all matrices, in a workgroup
layout(constant_id = 6) const uint VECS_EACH = 1;   // GROUP times as many hold a row
layout(constant_id = 7) const uint INPUT_BASE = kBaseZero;
layout(constant_id = 8) const uint OUTPUT_BASE = kBaseZero;
#if defined(CHAINED)
// 9 is chain.glsl's. A lane's columns, the same of all its rows, stay in registers.
layout(constant_id = 10) const bool HOLD = false;
#else
const bool HOLD = false;
#endif

layout(push_constant) uniform Push { ProductParams params; CHAIN_LINK };
#if defined(PLAIN)
#define CHAIN_BINDING 5
#else
#define CHAIN_BINDING 9
#endif
#define CHAIN_CONSTANT 9
#include "gpu-worker/kernels/common/chain.glsl"
#include "gpu-worker/kernels/common/product_weights.glsl"
#if defined(PLAIN)
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer InputBytes { uvec4 x[]; };
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer InputScales { vec2 x_scales[]; };
#else
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer Branch { vec4 branch[]; };
#endif
#if defined(GEGLU)
const uint MATRICES = 2u;
#include "gpu-worker/kernels/geglu/geglu.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"
#else
const uint MATRICES = 1u;
layout(std430, set = 0, binding = 3) HANDED_OVER writeonly buffer Output { float y[]; };
#endif
#if !defined(PLAIN)
layout(std430, set = 0, binding = 5) readonly buffer Weight { vec4 weight[]; };
layout(std430, set = 0, binding = 6) HANDED_OVER readonly buffer ResidualIn { vec4 residual_in[]; };
layout(std430, set = 0, binding = 7) HANDED_OVER writeonly buffer ResidualOut {
  vec4 residual_out[];
};
layout(std430, set = 0, binding = 8) readonly buffer NextWeight { vec4 next_weight[]; };
#endif

const uint SUBGROUPS = GROUP / SUBGROUP;
const uint TEAMS = SUBGROUPS / PARTS;
const uint PART_GROUPS = GROUPS / PARTS;
const uint VECS = GROUPS * 8u;

// The low halves of all groups of 32 columns, then the high ones; and as activations.glsl says.
shared uvec4 rounded_columns[2u * GROUPS];
shared vec2 rounded_scales[GROUPS];
shared float row_sums[MOST_ROWS * PARTS];

uint Self() { return gl_SubgroupID * SUBGROUP + gl_SubgroupInvocationID; }

// OpSDot of four signed bytes each (VK_KHR_shader_integer_dot_product); see dot.comp.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [ 6019, 6018 ],
                  id = 4450) int PackedDot(uint a, uint b, spirv_literal int format);

int Dot(uvec4 a, uvec4 b) {
  return PackedDot(a.x, b.x, 0) + PackedDot(a.y, b.y, 0) + PackedDot(a.z, b.z, 0) +
         PackedDot(a.w, b.w, 0);
}

uvec4 Columns(uint which, uint group) { return rounded_columns[which * GROUPS + group]; }

#if defined(PLAIN)
void FetchConstants() {}

// Brings the columns from memory, all at once, for all subgroups that share them.
void Prepare() {
  const uint HALVES_EACH = (2u * GROUPS + GROUP - 1u) / GROUP;
  uvec4 halves[HALVES_EACH];
  vec2 scales[HALVES_EACH];
  [[unroll]] for (uint h = 0u; h < HALVES_EACH; ++h) {
    const uint i = Self() + h * GROUP;
    halves[h] = x[min(i, 2u * GROUPS - 1u)];
    scales[h] = x_scales[GROUPS * 4u + min(i, GROUPS - 1u)];
  }
  [[unroll]] for (uint h = 0u; h < HALVES_EACH; ++h) {
    const uint i = Self() + h * GROUP;
    if (i < 2u * GROUPS) rounded_columns[i % 2u * GROUPS + i / 2u] = halves[h];
    if (i < GROUPS) rounded_scales[i] = scales[h];
  }
}
#else
shared float squares_of[2u * SUBGROUPS];

// Columns 4i to 4i + 3, as StoreActivation of activations.glsl rounds them. Eight neighbouring
// lanes call together for a group.
void Quantise(uint i, vec4 value) {
  const vec4 size = abs(value);
  float largest = max(max(size.x, size.y), max(size.z, size.w));
  largest = max(largest, subgroupShuffleXor(largest, 1u));
  largest = max(largest, subgroupShuffleXor(largest, 2u));
  largest = max(largest, subgroupShuffleXor(largest, 4u));
  const ivec4 rounded = ivec4(roundEven(value * (largest > 0.0 ? 127.0 / largest : 0.0)));
  int sum = rounded.x + rounded.y + rounded.z + rounded.w;
  sum += subgroupShuffleXor(sum, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  sum += subgroupShuffleXor(sum, 4u);
  const uvec4 bytes = uvec4(rounded) & 255u;
  const uint word = bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
  const uvec2 pair = uvec2(word, subgroupShuffleXor(word, 1u));
  const uvec2 other = subgroupShuffleXor(pair, 2u);
  if (i % 4u == 0u) rounded_columns[i / 4u % 2u * GROUPS + i / 8u] = uvec4(pair, other);
  const float scale = largest / 127.0;
  if (i % 8u == 0u) rounded_scales[i / 8u] = vec2(scale, 8.0 * scale * float(sum));
}

// 1 / the root mean square of a row, from each invocation's sum of squares. `which`: 0 and then 1.
float InverseRms(float squares, uint which) {
  for (uint other = SUBGROUP / 2u; other > 0u; other /= 2u)
    squares += subgroupShuffleXor(squares, other);
  if (gl_SubgroupInvocationID == 0u) squares_of[which * SUBGROUPS + gl_SubgroupID] = squares;
  barrier();
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < SUBGROUPS; ++i) sum += squares_of[which * SUBGROUPS + i];
  return 1.0 / sqrt(sum / float(GROUPS * 32u) + uintBitsToFloat(params.part_stride));
}

// Of both norms.
vec4 factor[VECS_EACH];
vec4 next_factor[VECS_EACH];

void FetchConstants() {
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = Self() + v * GROUP;
    factor[v] = i < VECS ? weight[i] : vec4(0.0);
    next_factor[v] = i < VECS ? next_weight[i] : vec4(0.0);
  }
}

// Ends the half layer in front and fills `rounded_columns`.
void Prepare() {
  const uint from = ResidualBase(INPUT_BASE) / 4u;
  const uint to = ResidualBase(OUTPUT_BASE) / 4u;
  vec4 added[VECS_EACH];
  vec4 before[VECS_EACH];
  float squares = 0.0;
  // Everything is read before the first sum is waited for.
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = Self() + v * GROUP;
    added[v] = i < VECS ? branch[i] : vec4(0.0);
    before[v] = i < VECS ? residual_in[from + i] : vec4(0.0);
    squares += dot(added[v], added[v]);
  }
  const float inverse = InverseRms(squares, 0u);
  squares = 0.0;
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    added[v] = before[v] + added[v] * factor[v] * inverse;
    squares += dot(added[v], added[v]);
  }
  const float next_inverse = InverseRms(squares, 1u);
  [[unroll]] for (uint v = 0u; v < VECS_EACH; ++v) {
    const uint i = Self() + v * GROUP;
    if (i >= VECS) continue;
    if (gl_WorkGroupID.x == 0u) residual_out[to + i] = added[v];
    Quantise(i, added[v] * next_factor[v] * next_inverse);
  }
}
#endif

// A row's weights as a lane has them, scales as they lie in memory: nothing here waits for what is
// fetched.
uvec4 next_blocks[LOADS][GROUP_BLOCKS];
uint next_scales[LOADS];
uint next_half;  // the row's first scale, in halves

uint GroupOf(uint load) {
  return gl_SubgroupID % PARTS * PART_GROUPS +
         min(gl_SubgroupInvocationID + load * SUBGROUP, PART_GROUPS - 1u);
}

void Load(uint row) {
  const WeightRow at = FindRow(row);
  [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
    const uint group = GroupOf(l);
    [[unroll]] for (uint b = 0u; b < GROUP_BLOCKS; ++b)
      next_blocks[l][b] = weight_blocks[at.block + group * GROUP_BLOCKS + b];
    next_scales[l] = weight_scales[(at.scale + group) / 2u];
  }
  next_half = at.scale;
}

float ScaleOf(uint word, uint half_at, uint load) {
  const vec2 pair = unpackHalf2x16(word);
  const float scale = (half_at + GroupOf(load)) % 2u == 0u ? pair.x : pair.y;
  return gl_SubgroupInvocationID + load * SUBGROUP < PART_GROUPS ? scale : 0.0;
}

uvec4 held_low[LOADS];
uvec4 held_high[LOADS];

void Hold() {
  [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
    held_low[l] = Columns(0u, GroupOf(l));
    held_high[l] = Columns(1u, GroupOf(l));
  }
}

float GroupProduct(uvec4 blocks[GROUP_BLOCKS], uint load) {
  const uint group = GroupOf(load);
  const vec2 scale = rounded_scales[group];
  const uvec4 low = HOLD ? held_low[load] : Columns(0u, group);
  const uvec4 high = HOLD ? held_high[load] : Columns(1u, group);
#if defined(WEIGHT_INT4)
  const int sum = Dot(blocks[0] & 0x0f0f0f0fu, low) + Dot(blocks[0] >> 4 & 0x0f0f0f0fu, high);
  return float(sum) * scale.x - scale.y;
#else
  return float(Dot(blocks[0], low) + Dot(blocks[1], high)) * scale.x;
#endif
}

float RowSum(uint index) {
  float sum = 0.0;
  [[unroll]] for (uint p = 0u; p < PARTS; ++p) sum += row_sums[index * PARTS + p];
  return sum;
}

#if defined(GEGLU)
// A workgroup's rows are those of the gate and of up in turn.
const uint UNIT = 32u;
uint RowAt(uint first, uint index) { return first + index / 2u + index % 2u * params.second_row; }

void Write(uint first, uint count) {
  for (uint i = Self(); i < count / 4u; i += GROUP) {
    vec4 value;
    [[unroll]] for (uint c = 0u; c < 4u; ++c)
      value[c] = Geglu(RowSum(8u * i + 2u * c), RowSum(8u * i + 2u * c + 1u));
    StoreActivation(0u, params.second_row, first / 4u + i, value, 0u);
  }
}
#else
const uint UNIT = 1u;
uint RowAt(uint first, uint index) { return first + index; }

void Write(uint first, uint count) {
  for (uint i = Self(); i < count; i += GROUP) y[params.output_offset + first + i] = RowSum(i);
}
#endif

void main() {
  // This workgroup's share of the rows of each matrix.
  const uint units = params.rows / (MATRICES * UNIT);
  const uint first = units * gl_WorkGroupID.x / gl_NumWorkGroups.x * UNIT;
  const uint end = units * (gl_WorkGroupID.x + 1u) / gl_NumWorkGroups.x * UNIT;
  const uint rows = (end - first) * MATRICES;
  const uint team = gl_SubgroupID / PARTS;
  if (team < rows) Load(RowAt(first, team));
  const uint looked = ChainLook();
  FetchConstants();
  ChainWait(looked);
  Prepare();
  barrier();
  if (HOLD) Hold();
  for (uint index = team; index < rows; index += TEAMS) {
    uvec4 blocks[LOADS][GROUP_BLOCKS];
    float scales[LOADS];
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      blocks[l] = next_blocks[l];
      scales[l] = ScaleOf(next_scales[l], next_half, l);
    }
    if (index + TEAMS < rows) Load(RowAt(first, index + TEAMS));
    float sum = 0.0;
    [[unroll]] for (uint l = 0u; l < LOADS; ++l)
      sum += scales[l] * GroupProduct(blocks[l], l);
    for (uint other = SUBGROUP / 2u; other > 0u; other /= 2u)
      sum += subgroupShuffleXor(sum, other);
    if (gl_SubgroupInvocationID == 0u) row_sums[index * PARTS + gl_SubgroupID % PARTS] = sum;
  }
  barrier();
  Write(first, end - first);
  ChainSignal();
}
