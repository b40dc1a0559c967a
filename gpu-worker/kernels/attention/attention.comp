#version 460
#extension GL_GOOGLE_include_directive : require
// Attention of one query head of one token over the paged cache, with online softmax: a workgroup takes 64 keys at a time, first one key a
// lane for the scores, then four dimensions a lane for the values (lanes beyond HEAD_DIM / 4 share the keys out). Queries come normalised, turned
// and scaled.
#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step.glsl"

const uint LANES = 64u;
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HEADS = 4;
layout(constant_id = 1) const uint KV_HEADS = 1;
layout(constant_id = 2) const uint HEAD_DIM = 256;  // a multiple of 4, up to 256
#include "gpu-worker/kernels/common/kv_cache.glsl"

layout(push_constant) uniform Push { AttentionParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Qkv { vec4 qkv[]; };
#ifdef KV_F16
layout(std430, set = 0, binding = 2) readonly buffer Keys { uvec2 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { uvec2 values[]; };
#define UNPACK(v) vec4(unpackHalf2x16((v).x), unpackHalf2x16((v).y))
#else
layout(std430, set = 0, binding = 2) readonly buffer Keys { vec4 keys[]; };
layout(std430, set = 0, binding = 3) readonly buffer Values { vec4 values[]; };
#define UNPACK(v) (v)
#endif
layout(std430, set = 0, binding = 4) writeonly buffer Output { vec4 attended[]; };

const float NOTHING = -3.0e38;  // the score of a key that is not seen

shared vec4 query[64];
shared float scores[LANES];
shared float weights[LANES];
shared uint rows[LANES];
shared vec4 sums[LANES];

void main() {
  const uint vecs = HEAD_DIM / 4u;
  const uint head = gl_WorkGroupID.x;
  const uint token = gl_WorkGroupID.y;
  if (token >= step.tokens) return;
  const uint lane = gl_LocalInvocationIndex;
  const uint kv_head = head / (HEADS / KV_HEADS);
  const uint sequence = step_words[step.sequences_at + token];
  const uint position = step_words[step.positions_at + token];
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;
  const uint first = params.window != 0u && position >= params.window ? position - params.window + 1u : 0u;

  if (lane < vecs) query[lane] = qkv[(token * (HEADS + 2u * KV_HEADS) + head) * vecs + lane];
  barrier();

  const uint parts = LANES / vecs;     // groups of lanes that share the keys out
  const uint part = lane / vecs;
  const uint column = lane % vecs;
  float largest = NOTHING;
  float total = 0.0;
  vec4 sum = vec4(0.0);
  for (uint start = first; start <= position; start += LANES) {
    const uint keys_here = min(LANES, position - start + 1u);
    float score = NOTHING;
    if (lane < keys_here) {
      const uint row = CacheRow(tables, sequence, start + lane, kv_head) / 4u;
      rows[lane] = row;
      score = 0.0;
      for (uint i = 0u; i < vecs; ++i) score += dot(query[i], UNPACK(keys[row + i]));
    }
    scores[lane] = score;
    barrier();
    float now_largest = largest;
    for (uint i = 0u; i < keys_here; ++i) now_largest = max(now_largest, scores[i]);
    weights[lane] = lane < keys_here ? exp(score - now_largest) : 0.0;
    const float fade = exp(largest - now_largest);
    largest = now_largest;
    barrier();
    total *= fade;
    for (uint i = 0u; i < keys_here; ++i) total += weights[i];
    sum *= fade;
    if (part < parts) {
      for (uint i = part; i < keys_here; i += parts) sum += weights[i] * UNPACK(values[rows[i] + column]);
    }
    barrier();  // `rows` is written again
  }

  sums[lane] = sum;
  barrier();
  if (lane >= vecs) return;
  for (uint p = 1u; p < parts; ++p) sum += sums[p * vecs + lane];
  attended[(token * HEADS + head) * vecs + lane] = sum / total;
}
