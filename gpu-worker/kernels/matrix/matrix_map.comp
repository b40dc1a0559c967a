#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// Which elements of a matrix each lane of a subgroup of 32 holds: loads matrices whose elements are
// their own numbers (row by row) and writes every lane's slots out. matrix.comp is written for one
// such map.
#include "gpu-worker/kernels/matrix/matrix_map.h"

layout(local_size_x = 32) in;
layout(constant_id = 100) const uint A_ROWS = 16;
layout(constant_id = 101) const uint A_COLUMNS = 16;
layout(constant_id = 102) const uint B_ROWS = 16;
layout(constant_id = 103) const uint B_COLUMNS = TILE_TOKENS;

const uint SLOTS_OF_B = 16u * TILE_TOKENS / 32u;

layout(std430, set = 0, binding = 0) writeonly buffer Map { uint map[]; };

shared float16_t numbers[256];

void main() {
  const uint lane = gl_SubgroupInvocationID;
  for (uint i = lane; i < 256u; i += 32u) numbers[i] = float16_t(float(i));
  barrier();
  fcoopmatNV<16, gl_ScopeSubgroup, A_ROWS, A_COLUMNS> a;
  fcoopmatNV<16, gl_ScopeSubgroup, B_ROWS, B_COLUMNS> b;
  coopMatLoadNV(a, numbers, 0u, 16u, false);
  coopMatLoadNV(b, numbers, 0u, TILE_TOKENS, false);
  const uint at = lane * 2u * kFragmentSlots;
  [[unroll]] for (uint i = 0u; i < kFragmentSlots; ++i) {
    map[at + i] = uint(a[i]);
    map[at + kFragmentSlots + i] = i < SLOTS_OF_B ? uint(b[min(i, SLOTS_OF_B - 1u)]) : ~0u;
  }
}
