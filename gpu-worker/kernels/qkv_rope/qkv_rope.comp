#version 460
#extension GL_GOOGLE_include_directive : require
// What stands between the projections and attention. One workgroup takes one head of one token of
// qkv[t] = (queries, keys, values): a query is normalised, turned (RoPE, halves as pairs) and
// scaled in place; a key is normalised, turned and written to the cache; a value is written to the
// cache. qkv is the sum of PARTS parts; queries go to the first.
#include "gpu-worker/kernels/qkv_rope/qkv_rope_params.h"
#include "gpu-worker/kernels/common/step.glsl"
#include "gpu-worker/kernels/common/sincos.glsl"

const uint LANES = 64u;
const uint MAX_HEAD_DIM = 256u;
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HEADS = 4;
layout(constant_id = 1) const uint KV_HEADS = 1;
layout(constant_id = 2) const uint HEAD_DIM = 256;  // even, with KV_I8 by 4; up to MAX_HEAD_DIM
layout(constant_id = 3) const uint PARTS = 1;
#include "gpu-worker/kernels/common/kv_cache.glsl"
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { QkvRopeParams params; };
layout(std430, set = 0, binding = 1) buffer Qkv { float qkv[]; };
layout(std430, set = 0, binding = 2) readonly buffer QueryNorm { float query_norm[]; };
layout(std430, set = 0, binding = 3) readonly buffer KeyNorm { float key_norm[]; };
// HEAD_DIM / 2
layout(std430, set = 0, binding = 4) readonly buffer Frequencies { float inverse_frequency[]; };
#if defined(KV_F16) || defined(KV_I8)
layout(std430, set = 0, binding = 5) writeonly buffer Keys { uint keys[]; };
layout(std430, set = 0, binding = 6) writeonly buffer Values { uint values[]; };
#else
layout(std430, set = 0, binding = 5) writeonly buffer Keys { float keys[]; };
layout(std430, set = 0, binding = 6) writeonly buffer Values { float values[]; };
#endif

shared float head_values[MAX_HEAD_DIM];
#ifdef KV_I8
shared float lane_largest[LANES];
#endif

void NormAndTurn(bool is_query, uint position) {
  float squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM; i += LANES)
    squares += head_values[i] * head_values[i];
  const float inverse = 1.0 / sqrt(WorkgroupSum(squares) / float(HEAD_DIM) + params.epsilon);
  const float scale = is_query ? params.query_scale : 1.0;
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM / 2u; i += LANES) {
    const uint j = i + HEAD_DIM / 2u;
    const float a = head_values[i] * inverse * (is_query ? query_norm[i] : key_norm[i]);
    const float b = head_values[j] * inverse * (is_query ? query_norm[j] : key_norm[j]);
    const vec2 turn = CosSin(float(position) * inverse_frequency[i]);
    head_values[i] = (a * turn.x - b * turn.y) * scale;
    head_values[j] = (b * turn.x + a * turn.y) * scale;
  }
  barrier();
}

void Store(bool is_key, uint at, uint position) {
#ifdef KV_I8
  float largest = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM; i += LANES)
    largest = max(largest, abs(head_values[i]));
  lane_largest[gl_LocalInvocationIndex] = largest;
  barrier();
  for (uint i = 0u; i < LANES; ++i) largest = max(largest, lane_largest[i]);
  const float inverse = largest > 0.0 ? 127.0 / largest : 0.0;
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM / 4u; i += LANES) {
    const uint word = PackInt8(inverse * vec4(head_values[4u * i], head_values[4u * i + 1u],
                                              head_values[4u * i + 2u], head_values[4u * i + 3u]));
    if (is_key) keys[at / 4u + i] = word; else values[at / 4u + i] = word;
  }
  if (gl_LocalInvocationIndex != 0u) return;
  const uint scale = floatBitsToUint(largest / 127.0);
  if (is_key) keys[ScaleWord(at, position)] = scale; else values[ScaleWord(at, position)] = scale;
#elif defined(KV_F16)
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM / 2u; i += LANES) {
    const uint pair = packHalf2x16(vec2(head_values[2u * i], head_values[2u * i + 1u]));
    if (is_key) keys[at / 2u + i] = pair; else values[at / 2u + i] = pair;
  }
#else
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM; i += LANES) {
    if (is_key) keys[at + i] = head_values[i]; else values[at + i] = head_values[i];
  }
#endif
}

void main() {
  const uint head = gl_WorkGroupID.x;
  const uint token = gl_WorkGroupID.y;
  if (token >= step.tokens) return;
  const uint position = step_words[step.positions_at + token];
  const uint at = (token * (HEADS + 2u * KV_HEADS) + head) * HEAD_DIM;
  for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM; i += LANES) {
    float sum = qkv[at + i];
    for (uint p = 1u; p < PARTS; ++p) sum += qkv[p * params.part_stride + at + i];
    head_values[i] = sum;
  }
  barrier();
  const bool is_query = head < HEADS;
  const bool is_key = !is_query && head < HEADS + KV_HEADS;
  if (is_query || is_key) NormAndTurn(is_query, position);
  if (is_query) {
    for (uint i = gl_LocalInvocationIndex; i < HEAD_DIM; i += LANES) qkv[at + i] = head_values[i];
    return;
  }
  const uint kv_head = (head - HEADS) % KV_HEADS;
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;
  const uint sequence = step_words[step.sequences_at + token];
  Store(is_key, CacheRow(tables, sequence, position, kv_head), position);
}
