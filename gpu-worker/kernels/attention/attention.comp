#version 460
#extension GL_GOOGLE_include_directive : require
// Attention of one query head of one token over the paged cache, with online softmax. A workgroup has PARTS parts of 64 lanes; each part takes
// every PARTS-th round of 64 keys, first one key a lane for the scores, then four dimensions a lane for the values (lanes beyond HEAD_DIM / 4 share
// the keys out). At the end the parts are weighed against each other. Queries come normalised, turned and scaled.
// Results leave as activations.glsl says.
#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/common/step.glsl"

const uint LANES = 64u;
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 64;      // PARTS times LANES, up to 512
layout(constant_id = 1) const uint HEADS = 4;
layout(constant_id = 2) const uint KV_HEADS = 1;
layout(constant_id = 3) const uint HEAD_DIM = 256;  // a multiple of 4, up to 256
const uint PARTS = GROUP / LANES;
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
#define OUTPUT_BINDING 4
#include "gpu-worker/kernels/common/activations.glsl"

const float NOTHING = -3.0e38;  // the score of a key that is not seen

shared vec4 query[64];
shared float scores[GROUP];
shared float weights[GROUP];
shared uint rows[GROUP];
shared vec4 sums[GROUP];
shared float largest_of[PARTS];
shared float total_of[PARTS];

// Weighs the parts' sums against each other and writes the head.
void WriteHead(uint token, uint head, uint column, uint vecs, uint sharers) {
  float largest = NOTHING;
  for (uint p = 0u; p < PARTS; ++p) largest = max(largest, largest_of[p]);
  float total = 0.0;
  vec4 sum = vec4(0.0);
  for (uint p = 0u; p < PARTS; ++p) {
    const float weight = exp(largest_of[p] - largest);
    total += weight * total_of[p];
    vec4 part_sum = vec4(0.0);
    for (uint s = 0u; s < sharers; ++s) part_sum += sums[p * LANES + s * vecs + column];
    sum += weight * part_sum;
  }
  StoreActivation(token, HEADS * HEAD_DIM, head * vecs + column, sum / total, params.pad);
}

void main() {
  const uint vecs = HEAD_DIM / 4u;
  const uint head = gl_WorkGroupID.x;
  const uint token = gl_WorkGroupID.y;
  if (token >= step.tokens) return;
  const uint self = ActivationLane();
  const uint lane = self % LANES;
  const uint mine = self - lane;  // first lane of this part
  const uint kv_head = head / (HEADS / KV_HEADS);
  const uint sequence = step_words[step.sequences_at + token];
  const uint position = step_words[step.positions_at + token];
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;
  const uint first = params.window != 0u && position >= params.window ? position - params.window + 1u : 0u;

  if (self < vecs) query[self] = qkv[(token * (HEADS + 2u * KV_HEADS) + head) * vecs + self];
  barrier();

  const uint sharers = LANES / vecs;  // lanes that work on the same dimensions
  const uint share = lane / vecs;
  const uint column = lane % vecs;
  float largest = NOTHING;
  float total = 0.0;
  vec4 sum = vec4(0.0);
  for (uint round = first; round <= position; round += GROUP) {
    const uint start = round + mine;
    const uint keys_here = start <= position ? min(LANES, position - start + 1u) : 0u;
    float score = NOTHING;
    if (lane < keys_here) {
      const uint row = CacheRow(tables, sequence, start + lane, kv_head) / 4u;
      rows[self] = row;
      score = 0.0;
      for (uint i = 0u; i < vecs; ++i) score += dot(query[i], UNPACK(keys[row + i]));
    }
    scores[self] = score;
    barrier();
    float now_largest = largest;
    for (uint i = 0u; i < keys_here; ++i) now_largest = max(now_largest, scores[mine + i]);
    weights[self] = lane < keys_here ? exp(score - now_largest) : 0.0;
    const float fade = exp(largest - now_largest);
    largest = now_largest;
    barrier();
    total *= fade;
    for (uint i = 0u; i < keys_here; ++i) total += weights[mine + i];
    sum *= fade;
    if (share < sharers) {
      for (uint i = share; i < keys_here; i += sharers) {
        sum += weights[mine + i] * UNPACK(values[rows[mine + i] + column]);
      }
    }
    barrier();  // `rows` is written again
  }

  sums[self] = sum;
  if (lane == 0u) {
    largest_of[self / LANES] = largest;
    total_of[self / LANES] = total;
  }
  barrier();
  if (self < vecs) WriteHead(token, head, self, vecs, sharers);
}
