#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// Matrices times many vectors of float16 activations (ACT_F16 of activations.glsl) with cooperative
// matrices 16 x TILE_TOKENS x 16 that accumulate in float32. A workgroup of WARPS subgroups of 32
// makes WARPS * TILES * 16 rows by TOKENS tokens; each subgroup has its own rows, whose weights it
// decodes in registers straight into fragments while the next ones are on their way; activations
// come through shared memory, STAGE_WORDS * 32 columns at a time. Workgroups of another z sum
// another part of the columns. Written in the NV dialect; the build makes KHR of it.
//
// With GEGLU the first matrix is the gate, the second up: a subgroup has 16 rows of both, and what
// leaves is gelu(gate) * up as float16 activations of the next product.
//
// Which element of a fragment lies where is the driver's own; this is for the map that
// matrix_map.comp confirms: with lane = 4r + t, slots 0 to 3 of A are row r, slots 4 to 7 row r +
// 8; of B token r and r + 8; each four columns that belong to t. The order of the columns is free,
// as long as both have the same. So t takes group t of a chunk of 128 columns.
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define THREADS (WARPS * 32)
#if TOKENS == 8
#define TILE_TOKENS 8
#else
#define TILE_TOKENS 16
#endif
// AHEAD: chunks whose weights are loaded together.
#define TOKEN_TILES (TOKENS / TILE_TOKENS)
#define STAGE_SLOTS (STAGE_WORDS * 4)  // 16-byte slots of a token in shared memory
#define STAGES_A_CHUNK (4 / STAGE_WORDS)
#define STAGE_LOADS ((TOKENS * STAGE_SLOTS + THREADS - 1) / THREADS)

layout(local_size_x = THREADS) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;
// The tool that makes KHR of this knows what a matrix type is for by these numbers.
layout(constant_id = 100) const uint A_ROWS = 16;
layout(constant_id = 101) const uint A_COLUMNS = 16;
layout(constant_id = 102) const uint B_ROWS = 16;
layout(constant_id = 103) const uint B_COLUMNS = TILE_TOKENS;
layout(constant_id = 104) const uint C_ROWS = 16;
layout(constant_id = 105) const uint C_COLUMNS = TILE_TOKENS;
#define MatrixA fcoopmatNV<16, gl_ScopeSubgroup, A_ROWS, A_COLUMNS>
#define MatrixB fcoopmatNV<16, gl_ScopeSubgroup, B_ROWS, B_COLUMNS>
#define MatrixC fcoopmatNV<32, gl_ScopeSubgroup, C_ROWS, C_COLUMNS>

layout(push_constant) uniform Push { ProductParams params; };
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) readonly buffer Input { uvec4 x[]; };
#if defined(GEGLU)
#include "gpu-worker/kernels/geglu/geglu.glsl"
#define OUTPUT_BINDING 3
#include "gpu-worker/kernels/common/activations.glsl"
#define ROWS_A_SUBGROUP 16
#else
layout(std430, set = 0, binding = 3) writeonly buffer Output { float y[]; };
#define ROWS_A_SUBGROUP (TILES * 16)
#endif

shared uvec4 stage[2 * TOKENS * STAGE_SLOTS];
shared float results[WARPS * 16 * TILE_TOKENS];

// Neighbouring tokens stand 256 or 128 bytes apart: every other one is turned, so that they meet
// different banks.
uint Swizzle(uint slot, uint token) { return slot ^ ((token & 1u) << 2); }

f16vec2 Halves(uint pair) { return unpackFloat2x16(pair); }

// The eight weights of a word in the order of a slot: 0x6400 | n is 1024 + n, exactly.
void Decode(uint low, uint high, f16vec2 scale, out f16vec2 even_low, out f16vec2 odd_low,
            out f16vec2 even_high, out f16vec2 odd_high) {
#if defined(WEIGHT_INT4)
  const uint next = low >> 8;
  even_low = (Halves((low & 0x000f000fu) | 0x64006400u) - f16vec2(1032.0hf)) * scale;
  odd_low = (Halves((next & 0x000f000fu) | 0x64006400u) - f16vec2(1032.0hf)) * scale;
  // High nibbles come times 16.
  even_high =
      fma(Halves((low & 0x00f000f0u) | 0x64006400u), f16vec2(0.0625hf), f16vec2(-72.0hf)) * scale;
  odd_high =
      fma(Halves((next & 0x00f000f0u) | 0x64006400u), f16vec2(0.0625hf), f16vec2(-72.0hf)) * scale;
#else
  const uint a = low ^ 0x80808080u;  // -128..127 become 0..255
  const uint b = high ^ 0x80808080u;
  even_low = (Halves((a & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale;
  odd_low = (Halves(((a >> 8) & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale;
  even_high = (Halves((b & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale;
  odd_high = (Halves(((b >> 8) & 0x00ff00ffu) | 0x64006400u) - f16vec2(1152.0hf)) * scale;
#endif
}

// What an invocation works on. `now` are the weights of AHEAD chunks, `next` those of the chunks
// behind them, which are on their way.
MatrixC sums[TILES][TOKEN_TILES];
WeightRow rows[TILES][2];
uvec4 now[TILES][2][AHEAD][GROUP_BLOCKS];
uvec4 next[TILES][2][AHEAD][GROUP_BLOCKS];
float now_scale[TILES][2][AHEAD];
float next_scale[TILES][2][AHEAD];
uvec4 moved[STAGE_LOADS];

uint Lane() { return gl_SubgroupInvocationID; }
uint Thread() { return gl_SubgroupID * 32u + gl_SubgroupInvocationID; }
uint FirstRow() { return (gl_WorkGroupID.y * WARPS + gl_SubgroupID) * ROWS_A_SUBGROUP; }
uint FirstToken() { return gl_WorkGroupID.x * TOKENS; }
uint FirstChunk() { return gl_WorkGroupID.z * params.chunks_a_part; }
uint EndChunk() { return min(FirstChunk() + params.chunks_a_part, params.groups / 4u); }

// Fetches the weights of AHEAD chunks from `chunk`; behind the last one, those of the last again.
void LoadNext(uint chunk) {
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      [[unroll]] for (uint h = 0; h < AHEAD; ++h) {
        const uint group = min(chunk + h, EndChunk() - 1u) * 4u + Lane() % 4u;
        [[unroll]] for (uint b = 0; b < GROUP_BLOCKS; ++b) {
          next[m][i][h][b] = weight_blocks[rows[m][i].block + group * GROUP_BLOCKS + b];
        }
        next_scale[m][i][h] = GroupScale(rows[m][i].scale + group);
      }
    }
  }
}

void NextIsNow() {
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      [[unroll]] for (uint h = 0; h < AHEAD; ++h) {
        [[unroll]] for (uint b = 0; b < GROUP_BLOCKS; ++b) now[m][i][h][b] = next[m][i][h][b];
        now_scale[m][i][h] = next_scale[m][i][h];
      }
    }
  }
}

bool MovesSlot(uint e) {
  return STAGE_LOADS * THREADS == TOKENS * STAGE_SLOTS || e < TOKENS * STAGE_SLOTS;
}

// Stages are counted from the first of a chunk of `now`.
void LoadStage(uint chunk, uint stage_of) {
  const uint from = (chunk + stage_of / STAGES_A_CHUNK) * params.pad + FirstToken();
  const uint word = stage_of % STAGES_A_CHUNK * STAGE_SLOTS;
  [[unroll]] for (uint j = 0; j < STAGE_LOADS; ++j) {
    const uint e = j * THREADS + Thread();
    if (MovesSlot(e)) moved[j] = x[(from + e / STAGE_SLOTS) * 16u + word + e % STAGE_SLOTS];
  }
}

void StoreStage(uint buffer_start) {
  [[unroll]] for (uint j = 0; j < STAGE_LOADS; ++j) {
    const uint e = j * THREADS + Thread();
    if (MovesSlot(e)) stage[buffer_start + Swizzle(e, e / STAGE_SLOTS)] = moved[j];
  }
}

// Adds the products with word `word` of chunk `h` of `now`, whose activations are slots 4q to 4q +
// 3 of a stage.
void AddWord(uint h, uint word, uint buffer_start, uint q) {
  MatrixA low[TILES];
  MatrixA high[TILES];
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      f16vec2 a, b, c, d;
      const f16vec2 scale = f16vec2(float16_t(now_scale[m][i][h]));
      Decode(now[m][i][h][0][word], now[m][i][h][GROUP_BLOCKS - 1][word], scale, a, b, c, d);
      low[m][i * 4] = a.x;
      low[m][i * 4 + 1] = a.y;
      low[m][i * 4 + 2] = b.x;
      low[m][i * 4 + 3] = b.y;
      high[m][i * 4] = c.x;
      high[m][i * 4 + 1] = c.y;
      high[m][i * 4 + 2] = d.x;
      high[m][i * 4 + 3] = d.y;
    }
  }
  [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
    MatrixB x_low;
    MatrixB x_high;
    [[unroll]] for (uint i = 0; i < TILE_TOKENS / 8; ++i) {
      const uint token = n * TILE_TOKENS + i * 8 + Lane() / 4u;
      const uvec4 slot =
          stage[buffer_start + token * STAGE_SLOTS + Swizzle(q * 4 + Lane() % 4u, token)];
      const f16vec2 a = Halves(slot.x), b = Halves(slot.y), c = Halves(slot.z), d = Halves(slot.w);
      x_low[i * 4] = a.x;
      x_low[i * 4 + 1] = a.y;
      x_low[i * 4 + 2] = b.x;
      x_low[i * 4 + 3] = b.y;
      x_high[i * 4] = c.x;
      x_high[i * 4 + 1] = c.y;
      x_high[i * 4 + 2] = d.x;
      x_high[i * 4 + 3] = d.y;
    }
    [[unroll]] for (uint m = 0; m < TILES; ++m) sums[m][n] =
        coopMatMulAddNV(low[m], x_low, sums[m][n]);
    [[unroll]] for (uint m = 0; m < TILES; ++m) sums[m][n] =
        coopMatMulAddNV(high[m], x_high, sums[m][n]);
  }
}

// Adds `count` chunks from `chunk`, which stand in `now`, and lets the next ones take their place.
// Where the number of stages is even each has the same buffer every time, which saves arithmetic.
void AddChunks(uint chunk, uint count) {
  LoadNext(chunk + AHEAD);
  [[unroll]] for (uint s = 0; s < AHEAD * STAGES_A_CHUNK; ++s) {
    if (s >= count * STAGES_A_CHUNK) break;
    const uint side = AHEAD * STAGES_A_CHUNK % 2 == 0 ? s & 1u : (chunk - FirstChunk()) & 1u;
    const bool more =
        s + 1u < count * STAGES_A_CHUNK || chunk + (s + 1u) / STAGES_A_CHUNK < EndChunk();
    if (more) LoadStage(chunk, s + 1u);
    [[unroll]] for (uint q = 0; q < STAGE_WORDS; ++q) {
      AddWord(s / STAGES_A_CHUNK, s % STAGES_A_CHUNK * STAGE_WORDS + q,
              side * (TOKENS * STAGE_SLOTS), q);
    }
    if (more) StoreStage((1u - side) * (TOKENS * STAGE_SLOTS));
    barrier();
  }
  NextIsNow();
}

#if defined(GEGLU)
// Through shared memory, where the four columns of a half slot come together.
void WriteSums() {
  const uint count = StepRows(COUNT);
  const uint mine = gl_SubgroupID * (16u * TILE_TOKENS);
  [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
    subgroupBarrier();
    MatrixC both;
    [[unroll]] for (uint i = 0; i < TILE_TOKENS / 2; ++i)
      both[i] = Geglu(sums[0][n][i], sums[1][n][i]);
    coopMatStoreNV(both, results, mine, 16u, true);
    subgroupBarrier();
    [[unroll]] for (uint e = 0; e < TILE_TOKENS / 8; ++e) {
      const uint i = e * 32u + Lane();
      const uint row = FirstRow() + i % 4u * 4u;
      const uint token = FirstToken() + n * TILE_TOKENS + i / 4u;
      const uint at = mine + i * 4u;
      if (row < params.second_row && token < count)
        StoreActivation(token, params.second_row, row / 4u,
                        vec4(results[at], results[at + 1u], results[at + 2u], results[at + 3u]) *
                            params.output_scale,
                        params.part_stride);
    }
  }
}
#else
// Through shared memory, where rows and tokens outside can be told from those inside.
void WriteSums() {
  const uint count = StepRows(COUNT);
  const uint mine = gl_SubgroupID * (16u * TILE_TOKENS);
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
      subgroupBarrier();
      coopMatStoreNV(sums[m][n], results, mine, 16u, true);
      subgroupBarrier();
      [[unroll]] for (uint e = 0; e < TILE_TOKENS / 2; ++e) {
        const uint row = FirstRow() + m * 16u + Lane() % 16u;
        const uint token = FirstToken() + n * TILE_TOKENS + 2u * e + Lane() / 16u;
        if (row < params.rows && token < count) {
          y[gl_WorkGroupID.z * params.part_stride + token * params.output_stride +
            params.output_offset + row] = results[mine + e * 32u + Lane()] * params.output_scale;
        }
      }
    }
  }
}

#endif

// The row of tile m that stands `r` rows from its first.
uint RowOf(uint m, uint r) {
#if defined(GEGLU)
  return m * params.second_row + min(FirstRow() + r, params.second_row - 1u);
#else
  return min(FirstRow() + m * 16u + r, params.rows - 1u);
#endif
}

void main() {
  // A bucket may end with tokens that the step has not.
  if (FirstToken() >= StepRows(COUNT)) return;
  [[unroll]] for (uint m = 0; m < TILES; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) rows[m][i] = FindRow(RowOf(m, i * 8u + Lane() / 4u));
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) sums[m][n] = MatrixC(0.0);
  }
  LoadNext(FirstChunk());
  NextIsNow();
  LoadStage(FirstChunk(), 0u);
  StoreStage(0u);
  barrier();
  uint chunk = FirstChunk();
#if TOKENS > 16
  for (; chunk + AHEAD <= EndChunk(); chunk += AHEAD) AddChunks(chunk, AHEAD);
  // One is left over; none of the buffers has changed sides.
  if (AHEAD == 2 && chunk < EndChunk()) AddChunks(chunk, 1u);
#else
  // With so little to do for a chunk NVIDIA's compiler does better where it cannot move loads over
  // a stage's end.
  for (; chunk < EndChunk(); chunk += AHEAD) AddChunks(chunk, min(AHEAD, EndChunk() - chunk));
#endif
  WriteSums();
}
