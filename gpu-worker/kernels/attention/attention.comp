#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Attention of SHARED_HEADS query heads of one token over the paged cache, with online softmax. A
// workgroup has PARTS parts of 64 lanes; each part takes every PARTS-th round of 64 keys, first one
// key a lane for the scores, then four dimensions a lane for the values (lanes beyond HEAD_DIM / 4
// share the keys out). At the end the parts are weighed against each other. Queries come
// normalised, turned and scaled. Results leave as activations.glsl says.
#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step.glsl"

const uint LANES = 64u;
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 64;      // PARTS times LANES, up to 512
layout(constant_id = 1) const uint HEADS = 4;
layout(constant_id = 2) const uint KV_HEADS = 1;
layout(constant_id = 3) const uint HEAD_DIM = 256;  // a multiple of 4, up to 256
// query heads that share a key head and a workgroup, up to 8
layout(constant_id = 4) const uint SHARED_HEADS = 1;
const uint PARTS = GROUP / LANES;
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

shared vec4 query[SHARED_HEADS * 64u];
shared float scores[SHARED_HEADS * GROUP];
shared float weights[SHARED_HEADS * GROUP];
shared uint rows[GROUP];
#ifdef KV_I8
shared float value_scales[GROUP];
#endif
shared vec4 sums[SHARED_HEADS * GROUP];
shared float octet_largest[SHARED_HEADS * PARTS * OCTETS];
shared float totals[SHARED_HEADS * GROUP];
shared float largest_of[SHARED_HEADS * PARTS];

// Weighs the parts' sums of a head against each other and writes the head.
void WriteHead(uint token, uint first_head, uint h, uint column, uint vecs, uint sharers) {
  float largest = NOTHING;
  for (uint p = 0u; p < PARTS; ++p) largest = max(largest, largest_of[h * PARTS + p]);
  float total = 0.0;
  vec4 sum = vec4(0.0);
  for (uint p = 0u; p < PARTS; ++p) {
    const float weight = exp(largest_of[h * PARTS + p] - largest);
    for (uint s = 0u; s < sharers; ++s) {
      const uint at = h * GROUP + p * LANES + s * vecs + column;
      total += weight * totals[at];
      sum += weight * sums[at];
    }
  }
  StoreActivation(token, HEADS * HEAD_DIM, (first_head + h) * vecs + column, sum / total,
                  params.pad);
}

// The largest score of a part's round, from the octets' largest.
float RoundLargest(uint h, uint part) {
  float largest = NOTHING;
  for (uint o = 0u; o < OCTETS; ++o)
    largest = max(largest, octet_largest[(h * PARTS + part) * OCTETS + o]);
  return largest;
}

// What a lane has so far of each head: the largest score, and sums over the keys of its share.
float largest[SHARED_HEADS];
float total[SHARED_HEADS];
vec4 sum[SHARED_HEADS];

// Adds up to LANES keys from position `start`, of which `keys_here` are seen. Lanes of a part call
// together, with all others.
void AddKeys(uint tables, uint sequence, uint kv_head, uint start, uint keys_here) {
  const uint vecs = HEAD_DIM / 4u;
  const uint self = ActivationLane();
  const uint lane = self % LANES;
  const uint part = self / LANES;
  const uint mine = self - lane;      // first lane of this part
  const uint sharers = LANES / vecs;  // lanes that work on the same dimensions
  const uint share = lane / vecs;
  const uint column = lane % vecs;
  float score[SHARED_HEADS];
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) score[h] = lane < keys_here ? 0.0 : NOTHING;
  if (lane < keys_here) {
    const uint row = CacheRow(tables, sequence, start + lane, kv_head) / 4u;
    rows[self] = row;
    for (uint i = 0u; i < vecs; ++i) {
      const vec4 key = UNPACK(keys[row + i]);
      [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) score[h] += dot(query[h * 64u + i], key);
    }
#ifdef KV_I8
    const uint scale = ScaleWord(row * 4u, start + lane);
    [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) score[h] *= uintBitsToFloat(keys[scale]);
    value_scales[self] = uintBitsToFloat(values[scale]);
#endif
  }
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) scores[h * GROUP + self] = score[h];
  barrier();
  if (lane < OCTETS * SHARED_HEADS) {
    const uint h = lane / OCTETS;
    float of_octet = NOTHING;
    for (uint i = 0u; i < 8u; ++i)
      of_octet = max(of_octet, scores[h * GROUP + mine + lane % OCTETS * 8u + i]);
    octet_largest[(h * PARTS + part) * OCTETS + lane % OCTETS] = of_octet;
  }
  barrier();
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    const float now_largest = max(largest[h], RoundLargest(h, part));
    weights[h * GROUP + self] = lane < keys_here ? exp(score[h] - now_largest) : 0.0;
    const float fade = exp(largest[h] - now_largest);
    largest[h] = now_largest;
    total[h] *= fade;
    sum[h] *= fade;
  }
  barrier();
  if (share < sharers) {
    for (uint i = share; i < keys_here; i += sharers) {
      vec4 value = UNPACK(values[rows[mine + i] + column]);
#ifdef KV_I8
      value *= value_scales[mine + i];
#endif
      [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
        const float weight = weights[h * GROUP + mine + i];
        total[h] += weight;
        sum[h] += weight * value;
      }
    }
  }
  barrier();  // `rows` is written again
}

void main() {
  const uint vecs = HEAD_DIM / 4u;
  const uint first_head = gl_WorkGroupID.x * SHARED_HEADS;
  const uint token = gl_WorkGroupID.y;
  // attention_tile.comp or attention_matrix.comp takes those of tiles.
  if (token >= step.tokens || step_words[step.tiled_at + token] != 0u) return;
  const uint self = ActivationLane();
  const uint lane = self % LANES;
  const uint part = self / LANES;
  const uint mine = self - lane;  // first lane of this part
  const uint kv_head = first_head / (HEADS / KV_HEADS);
  const uint sequence = step_words[step.sequences_at + token];
  const uint position = step_words[step.positions_at + token];
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;
  const uint first =
      params.window != 0u && position >= params.window ? position - params.window + 1u : 0u;

  for (uint i = self; i < SHARED_HEADS * vecs; i += GROUP) {
    query[i / vecs * 64u + i % vecs] =
        qkv[(token * (HEADS + 2u * KV_HEADS) + first_head) * vecs + i];
  }
  barrier();
  uint last = position;
  if (params.bidirectional != 0u) {
    last = step_words[step.last_positions_at + sequence];
    if (params.window != 0u) last = min(last, position + params.window - 1u);
  }

  const uint sharers = LANES / vecs;  // lanes that work on the same dimensions
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    largest[h] = NOTHING;
    total[h] = 0.0;
    sum[h] = vec4(0.0);
  }
  for (uint round = first; round <= last; round += GROUP) {
    const uint start = round + mine;
    const uint keys_here = start <= last ? min(LANES, last - start + 1u) : 0u;
    AddKeys(tables, sequence, kv_head, start, keys_here);
  }

  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    sums[h * GROUP + self] = sum[h];
    totals[h * GROUP + self] = total[h];
    if (lane == 0u) largest_of[h * PARTS + part] = largest[h];
  }
  barrier();
  for (uint i = self; i < SHARED_HEADS * vecs; i += GROUP) {
    WriteHead(token, first_head, i / vecs, i % vecs, vecs, sharers);
  }
}
