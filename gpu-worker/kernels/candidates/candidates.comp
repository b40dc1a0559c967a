#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// One workgroup chooses the best logits of one row. The largest logits of the kMaxCandidates best
// blocks all are at least as large as the least of them, so nothing below that is one of the best:
// of those blocks whatever is not below is collected, and ranked. Where that is more than there is
// room for, or a block is broken, the row has no candidates.
//
// To rank n values takes n * n looks, so few are ranked: of the blocks those that are not below a
// first bound, and of the logits those of parts of blocks whose largest one is not below.
#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 64;  // a power of two, PART_LANES or more
#define REDUCED vec2
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { CandidatesParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Logits { float logits[]; };
// (rows, blocks, kLogitBlockFloats / 4)
layout(std430, set = 0, binding = 2) readonly buffer Blocks { vec4 of_block[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Found { uvec2 found[]; };

const uint ROOM = 512u;  // kMaxLogitBlocks or more
const uint FOUND_A_ROW = kMaxCandidates + 2u;
const uint BLOCK_VECS = kLogitBlockFloats / 4u;
const uint PART_VECS = kLogitParts / 4u;
// Blocks of a group; where that leaves fewer than kMaxCandidates groups, each is for itself.
const uint GROUP = 4u;
const uint PART_LANES = 16u;  // that look through one part
const uint LOADS = 4u;        // that a lane has in flight
const uint AT_ONCE = 4u;      // values that a rank looks at; a divisor of ROOM

shared float block_largest[kMaxLogitBlocks];
// Values (the bits of floats) and their numbers: groups of blocks and then blocks, by their largest
// logit and the number of the block that has it, then logits by token.
shared uvec2 listed[ROOM];
shared uint num_blocks;
shared uint num_collected;
shared uint chosen[kMaxCandidates];
shared uint parts[ROOM];  // block times kLogitParts, and part
shared uint num_parts;
shared uvec2 bound;
shared float threshold;
shared float most;
shared bool any_broken;

// 1 where `other` comes before `value`: larger ones do, and equals of lower numbers.
uint IsBefore(uvec2 other, uvec2 value) {
  const float mine = uintBitsToFloat(value.x);
  const float its = uintBitsToFloat(other.x);
  return uint(its > mine) + uint(its == mine) * uint(other.y < value.y);
}

// Of the first `count` of the list those that come before number `i` of it.
uint Rank(uint i, uint count) {
  const uvec2 value = listed[i];
  uint rank = 0u;
  for (uint first = 0u; first < count; first += AT_ONCE) {
    uvec2 others[AT_ONCE];
    [[unroll]] for (uint o = 0u; o < AT_ONCE; ++o) others[o] = listed[first + o];
    [[unroll]] for (uint o = 0u; o < AT_ONCE; ++o)
      rank += first + o < count ? IsBefore(others[o], value) : 0u;
  }
  return rank;
}

// Of the kMaxCandidates best groups the last one is the bound: so many blocks, at least, do not
// come behind it.
void FindBound() {
  const uint groups =
      params.blocks < GROUP * kMaxCandidates ? params.blocks : params.blocks / GROUP;
  for (uint g = gl_LocalInvocationIndex; g < groups; g += LANES) {
    uvec2 best = uvec2(floatBitsToUint(block_largest[g]), g);
    for (uint b = g + groups; b < params.blocks; b += groups)
      if (block_largest[b] > uintBitsToFloat(best.x))
        best = uvec2(floatBitsToUint(block_largest[b]), b);
    listed[g] = best;
  }
  barrier();
  for (uint g = gl_LocalInvocationIndex; g < groups; g += LANES)
    if (Rank(g, groups) + 1u == min(kMaxCandidates, groups)) bound = listed[g];
  barrier();
}

// Fills `chosen` with the best blocks; the last one's largest logit is the threshold.
void ChooseBlocks() {
  FindBound();
  for (uint b = gl_LocalInvocationIndex; b < params.blocks; b += LANES) {
    const uvec2 block = uvec2(floatBitsToUint(block_largest[b]), b);
    if (IsBefore(bound, block) == 0u) listed[atomicAdd(num_blocks, 1u)] = block;
  }
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < num_blocks; i += LANES) {
    const uint rank = Rank(i, num_blocks);
    const float largest = uintBitsToFloat(listed[i].x);
    if (rank < kMaxCandidates) chosen[rank] = listed[i].y;
    if (rank == 0u) most = largest;
    if (rank + 1u == min(kMaxCandidates, params.blocks)) threshold = largest;
  }
  barrier();
}

// Lists the parts of the chosen blocks that reach the threshold. Each has a logit to collect, so
// where there is no room for them there is none for the logits.
void ChooseParts(uint row) {
  const uint all = min(kMaxCandidates, params.blocks) * PART_VECS;
  for (uint i = gl_LocalInvocationIndex; i < all; i += LANES) {
    const uint block = chosen[i / PART_VECS];
    const vec4 largest = of_block[(row * params.blocks + block) * BLOCK_VECS + 1u + i % PART_VECS];
    [[unroll]] for (uint k = 0u; k < 4u; ++k) {
      if (!(largest[k] >= threshold)) continue;
      const uint at = atomicAdd(num_parts, 1u);
      if (at < ROOM) parts[at] = block * kLogitParts + i % PART_VECS * 4u + k;
    }
  }
  barrier();
}

// Logit k of a part: its token, or the vocabulary's size.
uint TokenOf(uint part, uint k) {
  const uint at = part % kLogitParts + k * kLogitParts;
  const uint token = part / kLogitParts * params.block + at;
  return at < params.block ? min(token, params.vocab) : params.vocab;
}

void Collect(uint row) {
  const uint count = min(num_parts, ROOM);
  const uint logits_of_part = (params.block + kLogitParts - 1u) / kLogitParts;
  const uint at_once = LANES / PART_LANES;
  const uint first_part = gl_LocalInvocationIndex / PART_LANES;
  for (uint k = gl_LocalInvocationIndex % PART_LANES; k < logits_of_part; k += PART_LANES) {
    for (uint p = first_part; p < count; p += LOADS * at_once) {
      float values[LOADS];
      uint tokens[LOADS];
      [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
        const uint part = p + l * at_once;
        tokens[l] = part < count ? TokenOf(parts[part], k) : params.vocab;
        values[l] = logits[row * params.vocab + min(tokens[l], params.vocab - 1u)];
      }
      [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
        if (tokens[l] == params.vocab || !(values[l] >= threshold)) continue;
        const uint at = atomicAdd(num_collected, 1u);
        if (at < ROOM) listed[at] = uvec2(floatBitsToUint(values[l]), tokens[l]);
      }
    }
  }
  barrier();
}

void main() {
  const uint row = gl_WorkGroupID.x;
  const uint lane = gl_LocalInvocationIndex;
  // Fetched before it is known whether the step has the row.
  for (uint b = lane; b < params.blocks; b += LANES)
    block_largest[b] = of_block[(row * params.blocks + b) * BLOCK_VECS].x;
  if (row >= step.logit_rows) return;
  const float inverse = uintBitsToFloat(step_words[step.inverse_temperatures_at + row]);
  if (lane == 0u) {
    num_blocks = num_parts = num_collected = 0u;
    any_broken = false;
  }
  barrier();
  ChooseBlocks();
  ChooseParts(row);
  Collect(row);
  vec2 sums = vec2(0.0);
  for (uint b = lane; b < params.blocks; b += LANES) {
    const vec4 left = of_block[(row * params.blocks + b) * BLOCK_VECS];
    if (left.y < 0.0) any_broken = true;
    sums += vec2(exp(left.x - most) * left.y, exp((left.x - most) * inverse) * left.z);
  }
  sums = WorkgroupSum(sums);
  const uint collected = num_collected;
  const bool usable = !any_broken && num_parts <= ROOM && collected <= ROOM && sums.x > 0.0;
  const uint count = usable ? min(collected, kMaxCandidates) : 0u;
  if (lane == 0u) {
    found[row * FOUND_A_ROW] = floatBitsToUint(sums);
    found[row * FOUND_A_ROW + 1u] = uvec2(count, 0u);
  }
  if (!usable) return;
  for (uint i = lane; i < collected; i += LANES) {
    const uint rank = Rank(i, collected);
    if (rank < kMaxCandidates) found[row * FOUND_A_ROW + 2u + rank] = listed[i];
  }
}
