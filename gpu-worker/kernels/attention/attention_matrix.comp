#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// Attention of the tokens of tiles (step_params.h) over the paged cache with cooperative matrices
// of float16 that accumulate in float32. A workgroup takes one tile times SHARED_HEADS heads: SIZE
// rows for each SPLIT subgroups, which share the keys out for the scores and the dimensions for the
// results. Keys and values come through shared memory, KEYS at a time, the next ones on their way
// meanwhile; the softmax is online and in float32. Nothing depends on which element of a matrix
// lies in which lane, but that a lane has as many as every other. Queries come normalised, turned
// and scaled. Results leave in ACT_F16 of
// activations.glsl. Written in the NV dialect; the build makes KHR of it.
#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define SIZE 16u
#define LANES 32u  // of a subgroup
#define LANES_A_ROW 2u
#define KEYS 32u
#if HEAD_DIM > 128
#define SPLIT 2u
#else
#define SPLIT 1u
#endif
#define SHARED_HEADS 2u
#define ROWS (kTileTokens * SHARED_HEADS)
#define ROW_TILES (32u * SHARED_HEADS / SIZE)
#define GROUP (ROW_TILES * SPLIT * LANES)
#define DIM_TILES (HEAD_DIM / 16)
#define OWN_DIM_TILES (DIM_TILES / SPLIT)
#define ELEMENTS (SIZE * SIZE / LANES)  // of an accumulator, in a lane
#define SLOTS (HEAD_DIM / 8u)           // of 16 bytes, of a key
#define STRIDE (SLOTS + 1u)             // from key to key in shared memory
#define SCORE_STRIDE (KEYS + 4u)
#define WEIGHT_STRIDE (KEYS / 2u + 4u)
#define LOADS ((KEYS * SLOTS + GROUP - 1u) / GROUP)

layout(local_size_x = GROUP) in;
layout(constant_id = 0) const uint HEADS = 2;     // a multiple of SHARED_HEADS * KV_HEADS
layout(constant_id = 1) const uint KV_HEADS = 1;
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
#include "gpu-worker/kernels/common/kv_cache.glsl"

layout(push_constant) uniform Push { AttentionParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Qkv { vec4 qkv[]; };
#ifdef KV_I8
layout(std430, set = 0, binding = 2) readonly buffer Keys { uvec2 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { uvec2 values[]; };
#define KEY_SLOT(at, scale) Scaled(keys[(at)], keys[(scale) / 2u][(scale) % 2u])
#define VALUE_SLOT(at, scale) Scaled(values[(at)], values[(scale) / 2u][(scale) % 2u])
#elif defined(KV_F16)
layout(std430, set = 0, binding = 2) readonly buffer Keys { uvec4 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { uvec4 values[]; };
#define KEY_SLOT(at, scale) keys[(at)]
#define VALUE_SLOT(at, scale) values[(at)]
#else
layout(std430, set = 0, binding = 2) readonly buffer Keys { vec4 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { vec4 values[]; };
#define KEY_SLOT(at, scale) Pack(keys[2u * (at)], keys[2u * (at) + 1u])
#define VALUE_SLOT(at, scale) Pack(values[2u * (at)], values[2u * (at) + 1u])
#endif
#define OUTPUT_BINDING 4
#include "gpu-worker/kernels/common/activations.glsl"

const float NOTHING = -3.0e38;  // the score of a key that is not seen

// Queries first, then KEYS keys and as many values.
shared uvec4 staged[2u * KEYS * STRIDE];  // ROWS are as many
// LEAN, for RDNA3, whose matrices take twice the registers: queries stay in shared memory, and keys
// and values are fetched when they are needed.
#ifdef LEAN
shared uvec4 queries[ROWS * STRIDE];
#define QUERIES queries
#else
#define QUERIES staged
#endif
// Later each subgroup's results.
shared float scores[ROWS * SCORE_STRIDE];
shared uint weights[ROWS * WEIGHT_STRIDE];  // pairs of halves
shared float fades[ROWS];
shared float totals[ROWS * SPLIT];

#ifndef LEAN
MatrixA query[DIM_TILES];
#endif
MatrixC result[OWN_DIM_TILES];
uvec4 next_keys[LOADS];
uvec4 next_values[LOADS];

uint Thread() { return gl_SubgroupID * LANES + gl_SubgroupInvocationID; }
uint RowTile() { return gl_SubgroupID / SPLIT; }
uint Share() { return gl_SubgroupID % SPLIT; }

uvec4 Pack(vec4 a, vec4 b) {
  const vec4 low = clamp(a, -65504.0, 65504.0);
  const vec4 high = clamp(b, -65504.0, 65504.0);
  return uvec4(packHalf2x16(low.xy), packHalf2x16(low.zw), packHalf2x16(high.xy),
               packHalf2x16(high.zw));
}

#ifdef KV_I8
uvec4 Scaled(uvec2 v, uint scale) {
  return Pack(UnpackInt8(v.x) * uintBitsToFloat(scale), UnpackInt8(v.y) * uintBitsToFloat(scale));
}
#endif

// Fetches KEYS keys and values from position `start`; zeros behind `last`, where anything may
// stand.
void LoadNext(uint tables, uint sequence, uint kv_head, uint start, uint last) {
  [[unroll]] for (uint j = 0u; j < LOADS; ++j) {
    const uint e = j * GROUP + Thread();
    const uint position = start + e / SLOTS;
    next_keys[j] = next_values[j] = uvec4(0u);
    if (e < KEYS * SLOTS && position <= last) {
      const uint row = CacheRow(tables, sequence, position, kv_head);
      const uint at = row / 8u + e % SLOTS;
#ifdef KV_I8
      const uint scale = ScaleWord(row, position);
#endif
      next_keys[j] = KEY_SLOT(at, scale);
      next_values[j] = VALUE_SLOT(at, scale);
    }
  }
}

void StoreNext() {
  [[unroll]] for (uint j = 0u; j < LOADS; ++j) {
    const uint e = j * GROUP + Thread();
    if (e < KEYS * SLOTS) {
      const uint at = e / SLOTS * STRIDE + e % SLOTS;
      staged[at] = next_keys[j];
      staged[KEYS * STRIDE + at] = next_values[j];
    }
  }
}

// Row r is head r / kTileTokens of token r % kTileTokens; behind the last token comes that again.
void LoadQueries(uint first_token, uint tokens, uint first_head) {
  for (uint e = Thread(); e < ROWS * SLOTS; e += GROUP) {
    const uint row = e / SLOTS;
    const uint token = first_token + min(row % kTileTokens, tokens - 1u);
    const uint head = first_head + row / kTileTokens;
    const uint at = ((token * (HEADS + 2u * KV_HEADS) + head) * SLOTS + e % SLOTS) * 2u;
    QUERIES[row * STRIDE + e % SLOTS] = Pack(qkv[at], qkv[at + 1u]);
  }
#ifndef LEAN
  barrier();
  [[unroll]] for (uint d = 0u; d < DIM_TILES; ++d) {
    coopMatLoadNV(query[d], staged, RowTile() * SIZE * STRIDE + d * SIZE / 8u, STRIDE, false);
  }
  barrier();
#endif
}

void MakeScores() {
  [[unroll]] for (uint j = 0u; j < KEYS / SIZE / SPLIT; ++j) {
    const uint k = j * SPLIT + Share();
    MatrixC sum = MatrixC(0.0);
    [[unroll]] for (uint d = 0u; d < DIM_TILES; ++d) {
      MatrixB key;
      coopMatLoadNV(key, staged, k * SIZE * STRIDE + d * SIZE / 8u, STRIDE, true);
#ifdef LEAN
      MatrixA query;
      coopMatLoadNV(query, queries, RowTile() * SIZE * STRIDE + d * SIZE / 8u, STRIDE, false);
      sum = coopMatMulAddNV(query, key, sum);
#else
      sum = coopMatMulAddNV(query[d], key, sum);
#endif
    }
    coopMatStoreNV(sum, scores, RowTile() * SIZE * SCORE_STRIDE + k * SIZE, SCORE_STRIDE, false);
  }
}

// What a lane has so far of its row: the largest score, and the sum of the weights it made.
float largest = NOTHING;
float total = 0.0;

// Scores to weights; the lanes of a row share its keys out.
void MakeWeights(uint position, uint start) {
  const uint lane = gl_SubgroupInvocationID;
  const uint row = RowTile() * SIZE + lane / LANES_A_ROW;
  const uint looked_at = KEYS / LANES_A_ROW;
  float now_largest = largest;
  for (uint i = 0u; i < looked_at; ++i) {
    const uint k = lane % LANES_A_ROW * looked_at + i;
    const bool seen = start + k <= position &&
                      (params.window == 0u || start + k + params.window > position);
    if (seen) now_largest = max(now_largest, scores[row * SCORE_STRIDE + k]);
  }
  for (uint other = 1u; other < LANES_A_ROW; other *= 2u)
    now_largest = max(now_largest, subgroupShuffleXor(now_largest, other));
  const float fade = exp(largest - now_largest);
  largest = now_largest;
  total *= fade;
  const uint made = looked_at / SPLIT;
  const uint first = (lane % LANES_A_ROW * SPLIT + Share()) * made;
  for (uint i = 0u; i < made; i += 2u) {
    vec2 pair = vec2(0.0);
    [[unroll]] for (uint j = 0u; j < 2u; ++j) {
      const uint k = first + i + j;
      const bool seen = start + k <= position &&
                        (params.window == 0u || start + k + params.window > position);
      if (seen) pair[j] = exp(scores[row * SCORE_STRIDE + k] - now_largest);
    }
    total += pair.x + pair.y;
    weights[row * WEIGHT_STRIDE + (first + i) / 2u] = packHalf2x16(pair);
  }
  if (lane % LANES_A_ROW == 0u && Share() == 0u) fades[row] = fade;
}

void AddValues() {
  // The same number in a whole row.
  MatrixC fade;
  coopMatLoadNV(fade, fades, RowTile() * SIZE, 0u, true);
  [[unroll]] for (uint d = 0u; d < OWN_DIM_TILES; ++d) {
    [[unroll]] for (uint i = 0u; i < ELEMENTS; ++i) result[d][i] *= fade[i];
  }
  [[unroll]] for (uint k = 0u; k < KEYS / SIZE; ++k) {
    MatrixA weight;
    coopMatLoadNV(weight, weights, RowTile() * SIZE * WEIGHT_STRIDE + k * SIZE / 2u, WEIGHT_STRIDE,
                  false);
    [[unroll]] for (uint d = 0u; d < OWN_DIM_TILES; ++d) {
      MatrixB value;
      coopMatLoadNV(value, staged,
                    (KEYS + k * SIZE) * STRIDE + (Share() * OWN_DIM_TILES + d) * SIZE / 8u, STRIDE,
                    false);
      result[d] = coopMatMulAddNV(weight, value, result[d]);
    }
  }
}

void WriteResults(uint first_token, uint tokens, uint first_head) {
  const uint lane = gl_SubgroupInvocationID;
  float of_row = total;
  for (uint other = 1u; other < LANES_A_ROW; other *= 2u)
    of_row += subgroupShuffleXor(of_row, other);
  if (lane % LANES_A_ROW == 0u)
    totals[Share() * ROWS + RowTile() * SIZE + lane / LANES_A_ROW] = of_row;
  barrier();
  const uint vecs = SIZE / 4u;
  const uint mine = gl_SubgroupID * SIZE * SIZE;
  [[unroll]] for (uint d = 0u; d < OWN_DIM_TILES; ++d) {
    subgroupBarrier();
    coopMatStoreNV(result[d], scores, mine, SIZE, false);
    subgroupBarrier();
    for (uint e = lane; e < SIZE * vecs; e += LANES) {
      const uint row = RowTile() * SIZE + e / vecs;
      const uint token = row % kTileTokens;
      if (token >= tokens) continue;
      float weight = 0.0;
      for (uint s = 0u; s < SPLIT; ++s) weight += totals[s * ROWS + row];
      const uint at = mine + e * 4u;
      const vec4 sum = vec4(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
      const uint column = (first_head + row / kTileTokens) * HEAD_DIM +
                          (Share() * OWN_DIM_TILES + d) * SIZE;
      StoreActivation(first_token + token, HEADS * HEAD_DIM, column / 4u + e % vecs, sum / weight,
                      params.pad);
    }
  }
}

void main() {
  const uint tile = gl_WorkGroupID.y;
  if (tile >= step.tiles) return;
  const uint first_token = step_words[step.tiles_at + 2u * tile];
  const uint tokens = step_words[step.tiles_at + 2u * tile + 1u];
  const uint first_head = gl_WorkGroupID.x * SHARED_HEADS;
  const uint kv_head = first_head / (HEADS / KV_HEADS);
  const uint sequence = step_words[step.sequences_at + first_token];
  const uint first_position = step_words[step.positions_at + first_token];
  const uint last = first_position + tokens - 1u;
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;
  const uint window = params.window;
  const uint first = window != 0u && first_position >= window ? first_position - window + 1u : 0u;
  const uint own_row = RowTile() * SIZE + gl_SubgroupInvocationID / LANES_A_ROW;
  const uint position = first_position + own_row % kTileTokens;

  LoadQueries(first_token, tokens, first_head);
  [[unroll]] for (uint d = 0u; d < OWN_DIM_TILES; ++d) result[d] = MatrixC(0.0);
  // From a block's first key on: what stands in front of the window is there, and not seen.
  uint start = first / kBlockTokens * kBlockTokens;
#ifndef LEAN
  LoadNext(tables, sequence, kv_head, start, last);
#endif
  for (; start <= last; start += KEYS) {
#ifdef LEAN
    LoadNext(tables, sequence, kv_head, start, last);
#endif
    StoreNext();
    barrier();
#ifndef LEAN
    LoadNext(tables, sequence, kv_head, start + KEYS, last);
#endif
    MakeScores();
    barrier();
    MakeWeights(position, start);
    barrier();
    AddValues();
    barrier();
  }
  WriteResults(first_token, tokens, first_head);
}
