#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// One workgroup chooses the best logits of one row. The largest logits of the kMaxCandidates best
// blocks all are at least as large as the least of them, so nothing below that is one of the best:
// of those blocks whatever is not below is collected, and ranked. Where that is more than there is
// room for, or a block is broken, the row has no candidates.
#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/common/step.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 64;  // a power of two, 16 or more
#include "gpu-worker/kernels/common/reduce.glsl"

layout(push_constant) uniform Push { CandidatesParams params; };
layout(std430, set = 0, binding = 1) readonly buffer Logits { float logits[]; };
layout(std430, set = 0, binding = 2) readonly buffer Blocks { vec4 of_block[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Found { uvec2 found[]; };

const uint ROOM = 512u;
const uint FOUND_A_ROW = kMaxCandidates + 2u;
const uint LOADS = 8u;  // that a lane has in flight

shared float block_largest[kMaxLogitBlocks];
shared uint chosen[kMaxCandidates];
shared float threshold;
shared float most;
shared float logit[ROOM];
shared uint token[ROOM];
shared uint num_collected;

// Fills `chosen` with the best blocks; the last one's largest logit is the threshold.
void ChooseBlocks() {
  for (uint b = gl_LocalInvocationIndex; b < params.blocks; b += LANES) {
    const float mine = block_largest[b];
    uint rank = 0u;
    for (uint o = 0u; o < params.blocks; ++o) {
      const float other = block_largest[o];
      rank += other > mine || (other == mine && o < b) ? 1u : 0u;
    }
    if (rank < kMaxCandidates) chosen[rank] = b;
    if (rank == 0u) most = mine;
    if (rank + 1u == min(kMaxCandidates, params.blocks)) threshold = mine;
  }
  barrier();
}

void Collect(uint row) {
  const uint all = min(kMaxCandidates, params.blocks) * params.block;
  for (uint first = gl_LocalInvocationIndex; first < all; first += LOADS * LANES) {
    float values[LOADS];
    uint tokens[LOADS];
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      const uint i = min(first + l * LANES, all - 1u);
      tokens[l] = chosen[i / params.block] * params.block + i % params.block;
      values[l] = logits[row * params.vocab + min(tokens[l], params.vocab - 1u)];
    }
    [[unroll]] for (uint l = 0u; l < LOADS; ++l) {
      const bool seen = first + l * LANES < all && tokens[l] < params.vocab;
      if (!seen || !(values[l] >= threshold)) continue;
      const uint at = atomicAdd(num_collected, 1u);
      if (at < ROOM) {
        logit[at] = values[l];
        token[at] = tokens[l];
      }
    }
  }
  barrier();
}

void main() {
  const uint row = gl_WorkGroupID.x;
  if (row >= step.logit_rows) return;
  const uint lane = gl_LocalInvocationIndex;
  if (lane == 0u) num_collected = 0u;
  for (uint b = lane; b < params.blocks; b += LANES)
    block_largest[b] = of_block[row * params.blocks + b].x;
  barrier();
  ChooseBlocks();
  Collect(row);
  const float inverse = uintBitsToFloat(step_words[step.inverse_temperatures_at + row]);
  float sum = 0.0;
  float scaled = 0.0;
  float broken = 0.0;
  for (uint b = lane; b < params.blocks; b += LANES) {
    const vec4 sums = of_block[row * params.blocks + b];
    broken += sums.y < 0.0 ? 1.0 : 0.0;
    sum += exp(sums.x - most) * sums.y;
    scaled += exp((sums.x - most) * inverse) * sums.z;
  }
  sum = WorkgroupSum(sum);
  scaled = WorkgroupSum(scaled);
  broken = WorkgroupSum(broken);
  const uint collected = num_collected;
  const bool usable = broken == 0.0 && collected <= ROOM && sum > 0.0;
  const uint count = usable ? min(collected, kMaxCandidates) : 0u;
  if (lane == 0u) {
    found[row * FOUND_A_ROW] = uvec2(floatBitsToUint(sum), floatBitsToUint(scaled));
    found[row * FOUND_A_ROW + 1u] = uvec2(count, 0u);
  }
  if (!usable) return;
  for (uint i = lane; i < collected; i += LANES) {
    uint rank = 0u;
    for (uint o = 0u; o < collected; ++o)
      rank += logit[o] > logit[i] || (logit[o] == logit[i] && token[o] < token[i]) ? 1u : 0u;
    if (rank < kMaxCandidates)
      found[row * FOUND_A_ROW + 2u + rank] = uvec2(floatBitsToUint(logit[i]), token[i]);
  }
}
