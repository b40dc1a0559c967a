#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// Matrices times many vectors of float16 activations (ACT_F16 of activations.glsl) with cooperative
// matrices 16 x 16 x 16 of float16 that accumulate in float32, whatever lane holds which element:
// weights are decoded into shared memory, where activations come too, 64 columns at a time, and
// matrices are loaded from there. A workgroup makes ROWS rows by TOKENS tokens, each subgroup
// ROW_TILES by TOKEN_TILES matrices of them. Workgroups of another z sum another part of the
// columns. Written in the NV dialect; the build makes KHR of it.
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define SIZE 16u
#define LANES 32u
#define GROUP (ROW_SUBGROUPS * TOKEN_SUBGROUPS * LANES)
#define ROWS (SIZE * ROW_TILES * ROW_SUBGROUPS)
#define TOKENS (SIZE * TOKEN_TILES * TOKEN_SUBGROUPS)
// Of eight columns, of a row or token of a stage: [word 0, 1][group 0..3].
#define SLOTS 8u
#define STRIDE (SLOTS + 1u)  // so that neighbours meet different banks
#define STAGES 2u            // of a chunk of 128 columns
// Groups of weights, and slots of activations, that a lane moves.
#define BLOCKS ((ROWS * 4u + GROUP - 1u) / GROUP)
#define MOVES ((TOKENS * SLOTS + GROUP - 1u) / GROUP)

layout(local_size_x = GROUP) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;
// The tool that makes KHR of this knows what a matrix type is for by these numbers.
layout(constant_id = 100) const uint A_ROWS = 16;
layout(constant_id = 101) const uint A_COLUMNS = 16;
layout(constant_id = 102) const uint B_ROWS = 16;
layout(constant_id = 103) const uint B_COLUMNS = 16;
layout(constant_id = 104) const uint C_ROWS = 16;
layout(constant_id = 105) const uint C_COLUMNS = 16;
#define MatrixA fcoopmatNV<16, gl_ScopeSubgroup, A_ROWS, A_COLUMNS>
#define MatrixB fcoopmatNV<16, gl_ScopeSubgroup, B_ROWS, B_COLUMNS>
#define MatrixC fcoopmatNV<32, gl_ScopeSubgroup, C_ROWS, C_COLUMNS>

layout(push_constant) uniform Push { ProductParams params; };
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) readonly buffer Input { uvec4 x[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };

shared uvec4 staged_weights[ROWS * STRIDE];
shared uvec4 staged_x[TOKENS * STRIDE];
shared float results[ROW_SUBGROUPS * TOKEN_SUBGROUPS * SIZE * SIZE];

MatrixC sums[ROW_TILES][TOKEN_TILES];
uint block_of[BLOCKS];  // where the row of each of a lane's groups begins
uint scale_of[BLOCKS];
uvec4 raw[BLOCKS][GROUP_BLOCKS];
float raw_scale[BLOCKS];
uvec4 moved[MOVES];

uint Thread() { return gl_SubgroupID * LANES + gl_SubgroupInvocationID; }
uint RowSubgroup() { return gl_SubgroupID % ROW_SUBGROUPS; }
uint TokenSubgroup() { return gl_SubgroupID / ROW_SUBGROUPS; }
uint FirstRow() { return gl_WorkGroupID.y * ROWS; }
uint FirstToken() { return gl_WorkGroupID.x * TOKENS; }
uint FirstChunk() { return gl_WorkGroupID.z * params.chunks_a_part; }
uint EndChunk() { return min(FirstChunk() + params.chunks_a_part, params.groups / 4u); }

f16vec2 Halves(uint pair) { return unpackFloat2x16(pair); }
uint Pair(f16vec2 halves) { return packFloat2x16(halves); }

// The eight weights of a word in the order of a slot.
uvec4 Decode(uint j, uint word) {
  const f16vec2 scale = f16vec2(float16_t(raw_scale[j]));
#if defined(WEIGHT_INT4)
  // 0x6400 | n is 1024 + n, exactly; high nibbles come times 16.
  const uint low = raw[j][0][word];
  const uint next = low >> 8;
  return uvec4(
      Pair((Halves((low & 0x000f000fu) | 0x64006400u) - f16vec2(1032.0hf)) * scale),
      Pair((Halves((next & 0x000f000fu) | 0x64006400u) - f16vec2(1032.0hf)) * scale),
      Pair(fma(Halves((low & 0x00f000f0u) | 0x64006400u), f16vec2(0.0625hf), f16vec2(-72.0hf)) *
           scale),
      Pair(fma(Halves((next & 0x00f000f0u) | 0x64006400u), f16vec2(0.0625hf), f16vec2(-72.0hf)) *
           scale));
#elif defined(WEIGHT_INT8)
  const uint a = raw[j][0][word] ^ 0x80808080u;  // -128..127 become 0..255
  const uint b = raw[j][1][word] ^ 0x80808080u;
  return uvec4(
      Pair((Halves((a & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale),
      Pair((Halves(((a >> 8) & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale),
      Pair((Halves((b & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale),
      Pair((Halves(((b >> 8) & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale));
#else
  const uvec4 a = raw[j][word >> 1];
  const uvec4 b = raw[j][2u + (word >> 1)];
  const uvec2 low = (word & 1u) == 0u ? a.xy : a.zw;
  const uvec2 high = (word & 1u) == 0u ? b.xy : b.zw;
  // What float16 cannot hold is cut off.
  const vec4 first = clamp(uintBitsToFloat(uvec4(low << 16, low & 0xffff0000u)), -65504.0, 65504.0);
  const vec4 second =
      clamp(uintBitsToFloat(uvec4(high << 16, high & 0xffff0000u)), -65504.0, 65504.0);
  // (0, 2, 1, 3) of each: even columns stand in the low halves of the words.
  return uvec4(packHalf2x16(first.xy), packHalf2x16(first.zw), packHalf2x16(second.xy),
               packHalf2x16(second.zw));
#endif
}

bool HasBlock(uint e) { return BLOCKS * GROUP == ROWS * 4u || e < ROWS * 4u; }
bool HasMove(uint e) { return MOVES * GROUP == TOKENS * SLOTS || e < TOKENS * SLOTS; }

void LoadWeights(uint chunk) {
  [[unroll]] for (uint j = 0u; j < BLOCKS; ++j) {
    const uint e = j * GROUP + Thread();
    if (HasBlock(e)) {
      const uint group = chunk * 4u + e % 4u;
      [[unroll]] for (uint b = 0u; b < GROUP_BLOCKS; ++b) {
        raw[j][b] = weight_blocks[block_of[j] + group * GROUP_BLOCKS + b];
      }
      raw_scale[j] = GroupScale(scale_of[j] + group);
    }
  }
}

// Slot e of a stage: eight tokens (64 slots of a half chunk, which have 128 in memory) after eight
// tokens, in them word after word. GROUP is a multiple of 64.
void LoadInput(uint chunk, uint half_chunk) {
  const uint from = (chunk * params.pad + FirstToken()) * 16u + half_chunk * 64u +
                    Thread() / 64u * 128u + Thread() % 64u;
  [[unroll]] for (uint j = 0u; j < MOVES; ++j) {
    if (HasMove(j * GROUP + Thread())) moved[j] = x[from + j * (2u * GROUP)];
  }
}

void StoreStage(uint half_chunk) {
  [[unroll]] for (uint j = 0u; j < BLOCKS; ++j) {
    const uint e = j * GROUP + Thread();
    if (HasBlock(e)) {
      [[unroll]] for (uint w = 0u; w < 2u; ++w) {
        staged_weights[e / 4u * STRIDE + w * 4u + e % 4u] = Decode(j, half_chunk * 2u + w);
      }
    }
  }
  const uint token = Thread() / 64u * 8u + Thread() % 32u / 4u;
  const uint to = token * STRIDE + Thread() / 32u % 2u * 4u + Thread() % 4u;
  [[unroll]] for (uint j = 0u; j < MOVES; ++j) {
    if (HasMove(j * GROUP + Thread())) staged_x[to + j * (GROUP / 8u * STRIDE)] = moved[j];
  }
}

void AddStage() {
  [[unroll]] for (uint k = 0u; k < SLOTS * 8u / SIZE; ++k) {
    MatrixA a[ROW_TILES];
    [[unroll]] for (uint m = 0u; m < ROW_TILES; ++m) {
      const uint row = (RowSubgroup() * ROW_TILES + m) * SIZE;
      coopMatLoadNV(a[m], staged_weights, row * STRIDE + k * SIZE / 8u, STRIDE, false);
    }
    [[unroll]] for (uint n = 0u; n < TOKEN_TILES; ++n) {
      MatrixB b;
      const uint token = (TokenSubgroup() * TOKEN_TILES + n) * SIZE;
      coopMatLoadNV(b, staged_x, token * STRIDE + k * SIZE / 8u, STRIDE, true);
      [[unroll]] for (uint m = 0u; m < ROW_TILES; ++m) {
        sums[m][n] = coopMatMulAddNV(a[m], b, sums[m][n]);
      }
    }
  }
}

// Through shared memory, where rows and tokens outside can be told from those inside.
void WriteSums() {
  const uint count = StepRows(COUNT);
  const uint lane = gl_SubgroupInvocationID;
  const uint mine = gl_SubgroupID * SIZE * SIZE;
  [[unroll]] for (uint m = 0u; m < ROW_TILES; ++m) {
    [[unroll]] for (uint n = 0u; n < TOKEN_TILES; ++n) {
      subgroupBarrier();
      coopMatStoreNV(sums[m][n], results, mine, SIZE, true);
      subgroupBarrier();
      for (uint e = lane; e < SIZE * SIZE; e += LANES) {
        const uint row = FirstRow() + (RowSubgroup() * ROW_TILES + m) * SIZE + e % SIZE;
        const uint token = FirstToken() + (TokenSubgroup() * TOKEN_TILES + n) * SIZE + e / SIZE;
        if (row < params.rows && token < count) {
          y[gl_WorkGroupID.z * params.part_stride + token * params.output_stride +
            params.output_offset + row] = results[mine + e] * params.output_scale;
        }
      }
    }
  }
}

void main() {
  // A bucket may end with tokens that the step has not.
  if (FirstToken() >= StepRows(COUNT)) return;
  [[unroll]] for (uint j = 0u; j < BLOCKS; ++j) {
    const uint e = j * GROUP + Thread();
    const WeightRow row = FindRow(min(FirstRow() + e / 4u, params.rows - 1u));
    block_of[j] = row.block;
    scale_of[j] = row.scale;
  }
  [[unroll]] for (uint m = 0u; m < ROW_TILES; ++m) {
    [[unroll]] for (uint n = 0u; n < TOKEN_TILES; ++n) sums[m][n] = MatrixC(0.0);
  }
  LoadWeights(FirstChunk());
  LoadInput(FirstChunk(), 0u);
  for (uint chunk = FirstChunk(); chunk < EndChunk(); ++chunk) {
    const uint next = min(chunk + 1u, EndChunk() - 1u);
    [[unroll]] for (uint s = 0u; s < STAGES; ++s) {
      StoreStage(s);
      barrier();
      if (s + 1u < STAGES) {
        LoadInput(chunk, s + 1u);
      } else {
        LoadWeights(next);
        LoadInput(next, 0u);
      }
      AddStage();
      barrier();
    }
  }
  WriteSums();
}
