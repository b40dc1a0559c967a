#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Attention of the tokens of tiles (step_params.h) over the paged cache, in float32: a workgroup
// takes TOKENS neighbours of one sequence times SHARED_HEADS heads, its rows, which share what is
// read of keys and values. Rounds of 64 keys with online softmax: first one key a lane for the
// scores, then four dimensions a lane for the values (lanes beyond HEAD_DIM / 4 share the keys
// out). Queries come normalised, turned and scaled. Results leave as activations.glsl says.
#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step.glsl"

const uint LANES = 64u;
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HEADS = 4;
layout(constant_id = 1) const uint KV_HEADS = 1;
layout(constant_id = 2) const uint HEAD_DIM = 256;  // a multiple of 4, up to 256
layout(constant_id = 3) const uint SHARED_HEADS = 1;  // divides HEADS / KV_HEADS
layout(constant_id = 4) const uint TOKENS = 8;  // divides kTileTokens
const uint ROWS = SHARED_HEADS * TOKENS;               // up to 8
#include "gpu-worker/kernels/common/kv_cache.glsl"

layout(push_constant) uniform Push { AttentionParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Qkv { vec4 qkv[]; };
#ifdef KV_I8
layout(std430, set = 0, binding = 2) readonly buffer Keys { uint keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { uint values[]; };
#define UNPACK(v) UnpackInt8(v)
#elif defined(KV_F16)
layout(std430, set = 0, binding = 2) readonly buffer Keys { uvec2 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { uvec2 values[]; };
#define UNPACK(v) vec4(unpackHalf2x16((v).x), unpackHalf2x16((v).y))
#else
layout(std430, set = 0, binding = 2) readonly buffer Keys { vec4 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { vec4 values[]; };
#define UNPACK(v) (v)
#endif
#define OUTPUT_BINDING 4
#include "gpu-worker/kernels/common/activations.glsl"

const float NOTHING = -3.0e38;  // the score of a key that is not seen
const uint OCTETS = LANES / 8u;
const uint VECS = HEAD_DIM / 4u;
const uint SHARERS = LANES / VECS;  // lanes that work on the same dimensions

shared vec4 query[ROWS * VECS];
shared float scores[ROWS * LANES];
shared float octet_largest[ROWS * OCTETS];
shared uint cache_rows[LANES];
#ifdef KV_I8
shared float value_scales[LANES];
#endif
shared vec4 sums[ROWS * LANES];
shared float totals[ROWS * LANES];

// Of each row what a lane has so far: the largest score, and sums over the keys of its share.
float largest[ROWS];
float total[ROWS];
vec4 sum[ROWS];

// The row's query stands at this position.
uint PositionOf(uint first_position, uint row) { return first_position + row % TOKENS; }

// Adds up to LANES keys from position `start`, the last of them at `last`.
void AddKeys(uint tables, uint sequence, uint kv_head, uint first_position, uint start, uint last) {
  const uint lane = ActivationLane();
  const uint key_position = start + lane;
  const uint keys_here = min(LANES, last - start + 1u);
  float score[ROWS];
  [[unroll]] for (uint r = 0u; r < ROWS; ++r) score[r] = 0.0;
  if (lane < keys_here) {
    const uint at = CacheRow(tables, sequence, key_position, kv_head) / 4u;
    cache_rows[lane] = at;
    for (uint i = 0u; i < VECS; ++i) {
      const vec4 key = UNPACK(keys[at + i]);
      [[unroll]] for (uint r = 0u; r < ROWS; ++r) score[r] += dot(query[r * VECS + i], key);
    }
#ifdef KV_I8
    const uint scale = ScaleWord(at * 4u, key_position);
    [[unroll]] for (uint r = 0u; r < ROWS; ++r) score[r] *= uintBitsToFloat(keys[scale]);
    value_scales[lane] = uintBitsToFloat(values[scale]);
#endif
  }
  [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
    const uint position = PositionOf(first_position, r);
    const bool seen = (params.bidirectional != 0u
                           ? params.window == 0u || key_position < position + params.window
                           : key_position <= position) &&
                      (params.window == 0u || key_position + params.window > position);
    if (!seen || lane >= keys_here) score[r] = NOTHING;
    scores[r * LANES + lane] = score[r];
  }
  barrier();
  for (uint i = lane; i < ROWS * OCTETS; i += LANES) {
    float of_octet = NOTHING;
    for (uint k = 0u; k < 8u; ++k) of_octet = max(of_octet, scores[i * 8u + k]);
    octet_largest[i] = of_octet;
  }
  barrier();
  [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
    float now_largest = largest[r];
    for (uint o = 0u; o < OCTETS; ++o)
      now_largest = max(now_largest, octet_largest[r * OCTETS + o]);
    // A row may see none of these keys, and none before them.
    scores[r * LANES + lane] = score[r] == NOTHING ? 0.0 : exp(score[r] - now_largest);
    const float fade = exp(largest[r] - now_largest);
    largest[r] = now_largest;
    total[r] *= fade;
    sum[r] *= fade;
  }
  barrier();
  if (lane / VECS < SHARERS) {
    for (uint k = lane / VECS; k < keys_here; k += SHARERS) {
      vec4 value = UNPACK(values[cache_rows[k] + lane % VECS]);
#ifdef KV_I8
      value *= value_scales[k];
#endif
      [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
        const float weight = scores[r * LANES + k];
        total[r] += weight;
        sum[r] += weight * value;
      }
    }
  }
  barrier();  // what is shared is written again
}

void main() {
  const uint groups_a_tile = kTileTokens / TOKENS;
  const uint tile = gl_WorkGroupID.y / groups_a_tile;
  const uint skipped = gl_WorkGroupID.y % groups_a_tile * TOKENS;
  if (tile >= step.tiles || step_words[step.tiles_at + 2u * tile + 1u] <= skipped) return;
  const uint first_token = step_words[step.tiles_at + 2u * tile] + skipped;
  const uint tokens = min(TOKENS, step_words[step.tiles_at + 2u * tile + 1u] - skipped);
  const uint first_head = gl_WorkGroupID.x * SHARED_HEADS;
  const uint lane = ActivationLane();
  const uint sequence = step_words[step.sequences_at + first_token];
  const uint first_position = step_words[step.positions_at + first_token];
  uint last = first_position + tokens - 1u;
  if (params.bidirectional != 0u) {
    const uint of_sequence = step_words[step.last_positions_at + sequence];
    last = params.window == 0u ? of_sequence : min(of_sequence, last + params.window - 1u);
  }
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;

  // Row r is head r / TOKENS of token r % TOKENS; behind the last token comes that again.
  for (uint i = lane; i < ROWS * VECS; i += LANES) {
    const uint row = i / VECS;
    const uint token = first_token + min(row % TOKENS, tokens - 1u);
    const uint head = first_head + row / TOKENS;
    query[i] = qkv[(token * (HEADS + 2u * KV_HEADS) + head) * VECS + i % VECS];
  }
  [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
    largest[r] = NOTHING;
    total[r] = 0.0;
    sum[r] = vec4(0.0);
  }
  barrier();
  const uint window = params.window;
  const uint first = window != 0u && first_position >= window ? first_position - window + 1u : 0u;
  for (uint start = first; start <= last; start += LANES) {
    AddKeys(tables, sequence, first_head / (HEADS / KV_HEADS), first_position, start, last);
  }

  [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
    sums[r * LANES + lane] = sum[r];
    totals[r * LANES + lane] = total[r];
  }
  barrier();
  for (uint i = lane; i < ROWS * VECS; i += LANES) {
    const uint row = i / VECS;
    vec4 of_row = vec4(0.0);
    float weight = 0.0;
    for (uint s = 0u; s < SHARERS; ++s) {
      of_row += sums[row * LANES + s * VECS + i % VECS];
      weight += totals[row * LANES + s * VECS + i % VECS];
    }
    if (row % TOKENS < tokens) {
      StoreActivation(first_token + row % TOKENS, HEADS * HEAD_DIM,
                      (first_head + row / TOKENS) * VECS + i % VECS, of_row / weight, params.pad);
    }
  }
}
