#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
// Attention of a step in which every sequence has one token, with all that stands between the
// projections and it. A workgroup takes SHARED_HEADS query heads of one key head of one token
// (x, y) and every SPLITS-th round of keys (z): it norms, turns (RoPE) and scales the queries,
// norms and turns the token's own key, and writes that and the value to the cache. Earlier keys are
// shared out among teams of LANES invocations of a subgroup, UNROLL at a time each while the next
// ones are on their way; an invocation holds eight dimensions or more of everything, so nothing but
// the scores passes between lanes.
// Results of the splits go through memory, and the last split to end weighs them against each
// other. With CHAINED (chain.glsl) workgroups of the last splits count themselves.
#include "gpu-worker/kernels/decode/decode_params.h"
#include "gpu-worker/kernels/common/step.glsl"
#include "gpu-worker/kernels/common/sincos.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 64;      // a multiple of SUBGROUP
layout(constant_id = 1) const uint HEADS = 4;
layout(constant_id = 2) const uint KV_HEADS = 1;
layout(constant_id = 3) const uint HEAD_DIM = 256;  // a multiple of 8 (ACT_Q8: of 32), up to 256
layout(constant_id = 4) const uint SHARED_HEADS = 1;
layout(constant_id = 5) const uint SUBGROUP = 8;
layout(constant_id = 6) const uint LANES = 8;       // a power of two, at most SUBGROUP
layout(constant_id = 7) const uint UNROLL = 1;
layout(constant_id = 8) const uint SPLITS = 1;
layout(constant_id = 9) const uint QKV_PARTS = 1;
#include "gpu-worker/kernels/common/kv_cache.glsl"

layout(push_constant) uniform Push { DecodeParams params; CHAIN_LINK };
#define CHAIN_BINDING 10
#define CHAIN_CONSTANT 10
#include "gpu-worker/kernels/common/chain.glsl"
layout(std430, set = 0, binding = 1) HANDED_OVER readonly buffer Qkv { float qkv[]; };
#ifdef KV_I8
layout(std430, set = 0, binding = 2) buffer Keys { uvec2 keys[]; };
layout(std430, set = 0, binding = 3) buffer Values { uvec2 values[]; };
#elif defined(KV_F16)
layout(std430, set = 0, binding = 2) buffer Keys { uvec4 keys[]; };
layout(std430, set = 0, binding = 3) buffer Values { uvec4 values[]; };
#else
layout(std430, set = 0, binding = 2) buffer Keys { vec4 keys[]; };
layout(std430, set = 0, binding = 3) buffer Values { vec4 values[]; };
#endif
#define OUTPUT_BINDING 4
#include "gpu-worker/kernels/common/activations.glsl"
layout(std430, set = 0, binding = 5) readonly buffer QueryNorm { float query_norm[]; };
layout(std430, set = 0, binding = 6) readonly buffer KeyNorm { float key_norm[]; };
// HEAD_DIM / 2
layout(std430, set = 0, binding = 7) readonly buffer Frequencies { float inverse_frequency[]; };
// [token][head][split]: the sum, then the largest score and the total.
layout(std430, set = 0, binding = 8) coherent buffer Splits { vec4 split_sums[]; };
layout(std430, set = 0, binding = 9) coherent buffer Counters { uint counters[]; };

const float NOTHING = -3.0e38;  // the score of a key that is not seen
const uint TEAMS = GROUP / LANES;
const uint SUBGROUPS = GROUP / SUBGROUP;
const uint VECS = HEAD_DIM / 4u;
const uint OCTETS = HEAD_DIM / 8u;
const uint EACH = (OCTETS + LANES - 1u) / LANES;  // octets of an invocation
const uint ROUND = TEAMS * UNROLL;
const uint SPLIT_VECS = VECS + 1u;

// Query heads, then key and value of the token.
shared float heads[(SHARED_HEADS + 2u) * HEAD_DIM];
shared float inverse_rms[SHARED_HEADS + 1u];
shared vec4 sums_of[SUBGROUPS * VECS];
shared float largest_of[SUBGROUPS];
shared float total_of[SUBGROUPS];
shared uint arrived;
#ifdef KV_I8
shared float own_largest[2];  // magnitudes of the token's key and value
#endif

struct Octet {
  vec4 low;
  vec4 high;
};

// Octets as they lie in the cache (Raw), and back. `own`: 0 for the token's key, 1 for its value.
#ifdef KV_I8
float Inverse(uint own) { return own_largest[own] > 0.0 ? 127.0 / own_largest[own] : 0.0; }
vec4 Rounded(uint own, vec4 v) {
  return UnpackInt8(PackInt8(v * Inverse(own))) * (own_largest[own] / 127.0);
}
struct Raw {
  uvec2 v;
  uint scale;
};
Octet Unpack(Raw raw) {
  const float scale = uintBitsToFloat(raw.scale);
  return Octet(UnpackInt8(raw.v.x) * scale, UnpackInt8(raw.v.y) * scale);
}
Raw LoadKey(uint row, uint position, uint octet) {
  const uint scale = ScaleWord(row, position);
  return Raw(keys[row / 8u + octet], keys[scale / 2u][scale % 2u]);
}
Raw LoadValue(uint row, uint position, uint octet) {
  const uint scale = ScaleWord(row, position);
  return Raw(values[row / 8u + octet], values[scale / 2u][scale % 2u]);
}
void StoreKey(uint row, uint position, uint octet, Octet v) {
  keys[row / 8u + octet] = uvec2(PackInt8(v.low * Inverse(0u)), PackInt8(v.high * Inverse(0u)));
  const uint scale = ScaleWord(row, position);
  if (octet == 0u) keys[scale / 2u][scale % 2u] = floatBitsToUint(own_largest[0] / 127.0);
}
void StoreValue(uint row, uint position, uint octet, Octet v) {
  values[row / 8u + octet] = uvec2(PackInt8(v.low * Inverse(1u)), PackInt8(v.high * Inverse(1u)));
  const uint scale = ScaleWord(row, position);
  if (octet == 0u) values[scale / 2u][scale % 2u] = floatBitsToUint(own_largest[1] / 127.0);
}
#elif defined(KV_F16)
vec4 Rounded(uint own, vec4 v) {
  return vec4(unpackHalf2x16(packHalf2x16(v.xy)), unpackHalf2x16(packHalf2x16(v.zw)));
}
#define Raw uvec4
Octet Unpack(Raw v) {
  return Octet(vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y)),
               vec4(unpackHalf2x16(v.z), unpackHalf2x16(v.w)));
}
Raw LoadKey(uint row, uint position, uint octet) { return keys[row / 8u + octet]; }
Raw LoadValue(uint row, uint position, uint octet) { return values[row / 8u + octet]; }
uvec4 Pack(Octet v) {
  return uvec4(packHalf2x16(v.low.xy), packHalf2x16(v.low.zw), packHalf2x16(v.high.xy),
               packHalf2x16(v.high.zw));
}
void StoreKey(uint row, uint position, uint octet, Octet v) { keys[row / 8u + octet] = Pack(v); }
void StoreValue(uint row, uint position, uint octet, Octet v) {
  values[row / 8u + octet] = Pack(v);
}
#else
vec4 Rounded(uint own, vec4 v) { return v; }
#define Raw Octet
Octet Unpack(Raw v) { return v; }
Octet LoadKey(uint row, uint position, uint octet) {
  const uint at = row / 4u + octet * 2u;
  return Octet(keys[at], keys[at + 1u]);
}
Octet LoadValue(uint row, uint position, uint octet) {
  const uint at = row / 4u + octet * 2u;
  return Octet(values[at], values[at + 1u]);
}
void StoreKey(uint row, uint position, uint octet, Octet v) {
  keys[row / 4u + octet * 2u] = v.low;
  keys[row / 4u + octet * 2u + 1u] = v.high;
}
void StoreValue(uint row, uint position, uint octet, Octet v) {
  values[row / 4u + octet * 2u] = v.low;
  values[row / 4u + octet * 2u + 1u] = v.high;
}
#endif

uint Self() { return gl_SubgroupID * SUBGROUP + gl_SubgroupInvocationID; }
uint Lane() { return gl_SubgroupInvocationID % LANES; }
uint Team() { return Self() / LANES; }

vec4 HeadVec(uint head, uint vec) {
  const uint at = head * HEAD_DIM + vec * 4u;
  return vec4(heads[at], heads[at + 1u], heads[at + 2u], heads[at + 3u]);
}
Octet HeadOctet(uint head, uint octet) {
  return Octet(HeadVec(head, octet * 2u), HeadVec(head, octet * 2u + 1u));
}

// What the norms and the turns of Prepare take from memory. With CHAINED it is fetched while the
// dispatch in front still runs, and kept behind ChainWait, so that nothing waits for it in between.
#if defined(CHAINED)
shared vec2 turns[HEAD_DIM / 2u];
shared float norms[2u * HEAD_DIM];
const uint CHANNELS_EACH = (HEAD_DIM + GROUP - 1u) / GROUP;
vec3 fetched[CHANNELS_EACH];
void Fetch() {
  [[unroll]] for (uint f = 0u; f < CHANNELS_EACH; ++f) {
    const uint c = min(Self() + f * GROUP, HEAD_DIM - 1u);
    fetched[f] = vec3(query_norm[c], key_norm[c], inverse_frequency[c % (HEAD_DIM / 2u)]);
  }
}
void Keep(uint position) {
  [[unroll]] for (uint f = 0u; f < CHANNELS_EACH; ++f) {
    const uint c = Self() + f * GROUP;
    if (c >= HEAD_DIM) continue;
    norms[c] = fetched[f].x;
    norms[HEAD_DIM + c] = fetched[f].y;
    if (c < HEAD_DIM / 2u) turns[c] = CosSin(float(position) * fetched[f].z);
  }
}
vec2 Turn(uint position, uint c) { return turns[c]; }
float QueryFactor(uint c) { return norms[c]; }
float KeyFactor(uint c) { return norms[HEAD_DIM + c]; }
#else
void Fetch() {}
void Keep(uint position) {}
vec2 Turn(uint position, uint c) { return CosSin(float(position) * inverse_frequency[c]); }
float QueryFactor(uint c) { return query_norm[c]; }
float KeyFactor(uint c) { return key_norm[c]; }
#endif

// Fills `heads` for the token: queries normed, turned and scaled, the key normed and turned.
void Prepare(uint token, uint first_head, uint kv_head, uint position) {
  for (uint i = Self(); i < (SHARED_HEADS + 2u) * HEAD_DIM; i += GROUP) {
    const uint h = i / HEAD_DIM;
    const uint head = h < SHARED_HEADS ? first_head + h
                                       : HEADS + (h - SHARED_HEADS) * KV_HEADS + kv_head;
    const uint at = (token * (HEADS + 2u * KV_HEADS) + head) * HEAD_DIM + i % HEAD_DIM;
    float sum = qkv[at];
    for (uint p = 1u; p < QKV_PARTS; ++p) sum += qkv[p * params.part_stride + at];
    heads[i] = sum;
  }
  barrier();
  for (uint first = 0u; first <= SHARED_HEADS; first += TEAMS) {
    const uint h = min(first + Team(), SHARED_HEADS);
    float squares = 0.0;
    for (uint c = Lane(); c < HEAD_DIM; c += LANES)
      squares += heads[h * HEAD_DIM + c] * heads[h * HEAD_DIM + c];
    for (uint other = LANES / 2u; other > 0u; other /= 2u)
      squares += subgroupShuffleXor(squares, other);
    if (Lane() == 0u) inverse_rms[h] = 1.0 / sqrt(squares / float(HEAD_DIM) + params.epsilon);
  }
  barrier();
  for (uint i = Self(); i < (SHARED_HEADS + 1u) * (HEAD_DIM / 2u); i += GROUP) {
    const uint h = i / (HEAD_DIM / 2u);
    const uint c = i % (HEAD_DIM / 2u);
    const bool is_query = h < SHARED_HEADS;
    const uint low = h * HEAD_DIM + c;
    const uint high = low + HEAD_DIM / 2u;
    const float a = heads[low] * inverse_rms[h] * (is_query ? QueryFactor(c) : KeyFactor(c));
    const float b = heads[high] * inverse_rms[h] *
                    (is_query ? QueryFactor(c + HEAD_DIM / 2u) : KeyFactor(c + HEAD_DIM / 2u));
    const vec2 turn = Turn(position, c);
    const float scale = is_query ? params.query_scale : 1.0;
    heads[low] = (a * turn.x - b * turn.y) * scale;
    heads[high] = (b * turn.x + a * turn.y) * scale;
  }
  barrier();
#ifdef KV_I8
  for (uint first = 0u; first < 2u; first += TEAMS) {
    const uint own = min(first + Team(), 1u);
    float most = 0.0;
    for (uint c = Lane(); c < HEAD_DIM; c += LANES)
      most = max(most, abs(heads[(SHARED_HEADS + own) * HEAD_DIM + c]));
    for (uint other = LANES / 2u; other > 0u; other /= 2u)
      most = max(most, subgroupShuffleXor(most, other));
    if (Lane() == 0u) own_largest[own] = most;
  }
  barrier();
#endif
}

// What an invocation has of each head: the largest score, the total of the weights, and sums.
float largest[SHARED_HEADS];
float total[SHARED_HEADS];
Octet sums[SHARED_HEADS][EACH];
Octet queries[SHARED_HEADS][EACH];

bool Holds(uint e) { return EACH * LANES == OCTETS || Lane() + e * LANES < OCTETS; }
uint OctetOf(uint e) { return min(Lane() + e * LANES, OCTETS - 1u); }

float Score(uint h, Octet key[EACH]) {
  float score = 0.0;
  [[unroll]] for (uint e = 0u; e < EACH; ++e) {
    if (Holds(e))
      score += dot(queries[h][e].low, key[e].low) + dot(queries[h][e].high, key[e].high);
  }
  for (uint other = LANES / 2u; other > 0u; other /= 2u) score += subgroupShuffleXor(score, other);
  return score;
}

void Fade(uint h, float now_largest) {
  const float fade = exp(largest[h] - now_largest);
  largest[h] = now_largest;
  total[h] *= fade;
  [[unroll]] for (uint e = 0u; e < EACH; ++e) {
    sums[h][e].low *= fade;
    sums[h][e].high *= fade;
  }
}

// A round's keys and values that are on their way.
Raw next_keys[UNROLL][EACH];
Raw next_values[UNROLL][EACH];

// Fetches UNROLL keys and values of this team from position `start` on, all before `end`.
void LoadRound(uint tables, uint sequence, uint kv_head, uint start, uint end) {
  uint positions[UNROLL];
  uint rows[UNROLL];
  [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
    positions[u] = min(start + u * TEAMS + Team(), end - 1u);
    rows[u] = CacheRow(tables, sequence, positions[u], kv_head);
  }
  [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
    [[unroll]] for (uint e = 0u; e < EACH; ++e)
      next_keys[u][e] = LoadKey(rows[u], positions[u], OctetOf(e));
  }
  [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
    [[unroll]] for (uint e = 0u; e < EACH; ++e)
      next_values[u][e] = LoadValue(rows[u], positions[u], OctetOf(e));
  }
}

// Adds what was fetched; those from `end` on are not seen. `more`: fetches the round from there on.
void AddRound(uint tables, uint sequence, uint kv_head, uint start, uint end, uint more) {
  Octet key[UNROLL][EACH];
  Raw raw_value[UNROLL][EACH];
  [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
    [[unroll]] for (uint e = 0u; e < EACH; ++e) {
      key[u][e] = Unpack(next_keys[u][e]);
      raw_value[u][e] = next_values[u][e];
    }
  }
  if (more < end) LoadRound(tables, sequence, kv_head, more, end);
  Octet value[UNROLL][EACH];
  [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
    [[unroll]] for (uint e = 0u; e < EACH; ++e) value[u][e] = Unpack(raw_value[u][e]);
  }
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    float score[UNROLL];
    float now_largest = largest[h];
    [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
      score[u] = Score(h, key[u]);
      if (start + u * TEAMS + Team() < end) now_largest = max(now_largest, score[u]);
    }
    Fade(h, now_largest);
    [[unroll]] for (uint u = 0u; u < UNROLL; ++u) {
      const float weight =
          start + u * TEAMS + Team() < end ? exp(score[u] - now_largest) : 0.0;
      total[h] += weight;
      [[unroll]] for (uint e = 0u; e < EACH; ++e) {
        sums[h][e].low += weight * value[u][e].low;
        sums[h][e].high += weight * value[u][e].high;
      }
    }
  }
}

// Adds the token's own key, for one team.
void AddOwn() {
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    Octet key[EACH];
    [[unroll]] for (uint e = 0u; e < EACH; ++e) {
      key[e] = HeadOctet(SHARED_HEADS, OctetOf(e));
      key[e] = Octet(Rounded(0u, key[e].low), Rounded(0u, key[e].high));
    }
    const float score = Score(h, key);
    if (Team() != 0u) continue;
    const float now_largest = max(largest[h], score);
    Fade(h, now_largest);
    const float weight = exp(score - now_largest);
    total[h] += weight;
    [[unroll]] for (uint e = 0u; e < EACH; ++e) {
      const Octet value = HeadOctet(SHARED_HEADS + 1u, OctetOf(e));
      sums[h][e].low += weight * Rounded(1u, value.low);
      sums[h][e].high += weight * Rounded(1u, value.high);
    }
  }
}

// Adds up a head over the teams of each subgroup, and leaves what subgroups have in shared memory.
void Gather(uint h) {
  for (uint other = LANES; other < SUBGROUP; other *= 2u) {
    const float their_largest = subgroupShuffleXor(largest[h], other);
    const float their_total = subgroupShuffleXor(total[h], other);
    const float now_largest = max(largest[h], their_largest);
    const float weight = exp(their_largest - now_largest);
    Fade(h, now_largest);
    total[h] += weight * their_total;
    // Both sides have faded theirs alike: what comes is weighed by its owner.
    [[unroll]] for (uint e = 0u; e < EACH; ++e) {
      sums[h][e].low += subgroupShuffleXor(sums[h][e].low, other);
      sums[h][e].high += subgroupShuffleXor(sums[h][e].high, other);
    }
  }
  if (gl_SubgroupInvocationID < LANES) {
    [[unroll]] for (uint e = 0u; e < EACH; ++e) {
      if (!Holds(e)) continue;
      const uint at = gl_SubgroupID * VECS + (Lane() + e * LANES) * 2u;
      sums_of[at] = sums[h][e].low;
      sums_of[at + 1u] = sums[h][e].high;
    }
    if (Lane() == 0u) {
      largest_of[gl_SubgroupID] = largest[h];
      total_of[gl_SubgroupID] = total[h];
    }
  }
}

uint SplitAt(uint token, uint head, uint split) {
  return ((token * HEADS + head) * SPLITS + split) * SPLIT_VECS;
}

// Of one head from what Gather left: the result, or this split's part of it.
void WriteHead(uint token, uint head) {
  float most = largest_of[0];
  [[unroll]] for (uint s = 1u; s < SUBGROUPS; ++s) most = max(most, largest_of[s]);
  float all = 0.0;
  [[unroll]] for (uint s = 0u; s < SUBGROUPS; ++s) all += exp(largest_of[s] - most) * total_of[s];
  for (uint i = Self(); i < VECS; i += GROUP) {
    vec4 sum = vec4(0.0);
    [[unroll]] for (uint s = 0u; s < SUBGROUPS; ++s)
      sum += exp(largest_of[s] - most) * sums_of[s * VECS + i];
    if (SPLITS == 1u) {
      StoreActivation(token, HEADS * HEAD_DIM, head * VECS + i, sum / all, params.pad);
    } else {
      split_sums[SplitAt(token, head, gl_WorkGroupID.z) + i] = sum;
    }
  }
  if (SPLITS > 1u && Self() == 0u)
    split_sums[SplitAt(token, head, gl_WorkGroupID.z) + VECS] = vec4(most, all, 0.0, 0.0);
}

// What all splits have of the heads.
void WriteAllSplits(uint token, uint first_head) {
  for (uint i = Self(); i < SHARED_HEADS * VECS; i += GROUP) {
    const uint head = first_head + i / VECS;
    // Everything is read at once.
    vec4 parts[SPLITS];
    vec4 of_split[SPLITS];
    [[unroll]] for (uint s = 0u; s < SPLITS; ++s) {
      const uint at = SplitAt(token, head, s);
      of_split[s] = split_sums[at + VECS];
      parts[s] = split_sums[at + i % VECS];
    }
    float most = NOTHING;
    [[unroll]] for (uint s = 0u; s < SPLITS; ++s) most = max(most, of_split[s].x);
    float all = 0.0;
    vec4 sum = vec4(0.0);
    [[unroll]] for (uint s = 0u; s < SPLITS; ++s) {
      const float weight = exp(of_split[s].x - most);
      all += weight * of_split[s].y;
      sum += weight * parts[s];
    }
    StoreActivation(token, HEADS * HEAD_DIM, head * VECS + i % VECS, sum / all, params.pad);
  }
}

void main() {
  const uint token = gl_WorkGroupID.y;
  if (token >= step.tokens) {
    // For all splits.
    if (gl_WorkGroupID.z == 0u) ChainSignal();
    return;
  }
  const uint first_head = gl_WorkGroupID.x * SHARED_HEADS;
  const uint kv_head = first_head / (HEADS / KV_HEADS);
  const uint sequence = step_words[step.sequences_at + token];
  const uint position = step_words[step.positions_at + token];
  const uint tables = params.window == 0u ? step.global_blocks_at : step.window_blocks_at;
  const uint first =
      params.window != 0u && position >= params.window ? position - params.window + 1u : 0u;
  const uint stride = SPLITS * ROUND;
  const uint start = first + gl_WorkGroupID.z * ROUND;
  // The first keys depend on nothing that Prepare does, nor on the dispatch in front.
  Fetch();
  const uint looked = ChainLook();
  if (start < position) LoadRound(tables, sequence, kv_head, start, position);
  ChainWait(looked);
  Keep(position);
  Prepare(token, first_head, kv_head, position);
  // One of the workgroups that share the key head writes it.
  if (gl_WorkGroupID.z == 0u && first_head % (HEADS / KV_HEADS) == 0u) {
    const uint row = CacheRow(tables, sequence, position, kv_head);
    for (uint o = Self(); o < OCTETS; o += GROUP) {
      StoreKey(row, position, o, HeadOctet(SHARED_HEADS, o));
      StoreValue(row, position, o, HeadOctet(SHARED_HEADS + 1u, o));
    }
  }
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    largest[h] = NOTHING;
    total[h] = 0.0;
    [[unroll]] for (uint e = 0u; e < EACH; ++e) {
      sums[h][e] = Octet(vec4(0.0), vec4(0.0));
      queries[h][e] = HeadOctet(h, OctetOf(e));
    }
  }
  for (uint at = start; at < position; at += stride)
    AddRound(tables, sequence, kv_head, at, position, at + stride);
  if (gl_WorkGroupID.z == 0u) AddOwn();
  [[unroll]] for (uint h = 0u; h < SHARED_HEADS; ++h) {
    Gather(h);
    barrier();
    WriteHead(token, first_head + h);
    barrier();
  }
  if (SPLITS == 1u) {
    ChainSignal();
    return;
  }
  memoryBarrierBuffer();
  barrier();
  const uint counter = kFirstDecodeCounter + token * gl_NumWorkGroups.x + gl_WorkGroupID.x;
  if (Self() == 0u) arrived = atomicAdd(counters[counter], 1u);
  barrier();
  if (arrived + 1u < SPLITS) return;
  memoryBarrierBuffer();
  WriteAllSplits(token, first_head);
  if (Self() == 0u) counters[counter] = 0u;
  // For all splits.
  ChainSignal();
}
