#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
// What matrix.comp with GEGLU does, in int4 and for so few tokens that waiting takes most of the
// time: it takes two chunks of 128 columns at a time, so that there are half as many stages to wait
// for, and of their eight groups a lane has two neighbours, whose weights are 32 bytes in one piece
// and whose scales are one word. Of columns that end with a single chunk the last lanes' groups
// count as nothing.
#if defined(CHAINED)
#pragma use_vulkan_memory_model
#define MEMORY_MODEL
#endif
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/kernels/common/step.glsl"

#define THREADS (WARPS * 32)
// 16-byte slots of a chunk of activations.
#define CHUNK_SLOTS (TOKENS * 16)
#define CHUNK_LOADS (CHUNK_SLOTS / THREADS)
// What lanes multiply with their first groups, and with their second ones, in shared memory. Two
// slots more, and those who write both have banks of their own.
#define HALF_SLOTS (CHUNK_SLOTS + 2)
#define SIDE_SLOTS (2 * HALF_SLOTS)

layout(local_size_x = THREADS) in;
layout(constant_id = 0) const uint COUNT = kRowsAreTokens;
#include "gpu-worker/kernels/matrix/fragments.glsl"

layout(push_constant) uniform Push { ProductParams params; CHAIN_LINK };
#define CHAIN_BINDING 5
#define CHAIN_CONSTANT 1
#include "gpu-worker/kernels/common/chain.glsl"
#include "gpu-worker/kernels/common/product_weights.glsl"
layout(std430, set = 0, binding = 2) HANDED_OVER readonly buffer Input { uvec4 x[]; };
#include "gpu-worker/kernels/matrix/geglu_tiles.glsl"

// Takes turns: one side is read while the other is written.
shared uvec4 stage[2 * SIDE_SLOTS];

// What an invocation works on, of the gate and of up: of two rows, eight apart, two groups and a
// word with their scales. `now` is here, `next` on its way, and so is `moved`, of the pair behind
// `next`'s in the end.
WeightRow rows[2][2];
uvec4 now[2][2][2];
uvec4 next[2][2][2];
uint now_scales[2][2];
uint next_scales[2][2];
uvec4 moved[2 * CHUNK_LOADS];

uint Chunks() { return params.groups / 4u; }
// The first of the lane's groups among those of a row.
uint GroupOf(uint chunk) { return chunk * 4u + Lane() % 4u * 2u; }

// Fetches the weights of two chunks; behind a row's last group, those of the last two again.
void LoadNext(uint chunk) {
  const uint group = min(GroupOf(chunk), params.groups - 2u);
  [[unroll]] for (uint m = 0; m < 2; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      [[unroll]] for (uint h = 0; h < 2; ++h)
        next[m][i][h] = weight_blocks[rows[m][i].block + group + h];
      next_scales[m][i] = weight_scales[(rows[m][i].scale + group) / 2u];
    }
  }
}

// Those that LoadNext fetched of `chunk`. Scales of groups behind a row's last become 0 here: where
// they are fetched it would mean to wait for them.
void NextIsNow(uint chunk) {
  const uint kept = GroupOf(chunk) < params.groups ? 0xffffffffu : 0u;
  [[unroll]] for (uint m = 0; m < 2; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      [[unroll]] for (uint h = 0; h < 2; ++h) now[m][i][h] = next[m][i][h];
      now_scales[m][i] = next_scales[m][i] & kept;
    }
  }
}

// Fetches the activations of two chunks; behind the last one, those of the last again.
void LoadStage(uint chunk) {
  [[unroll]] for (uint c = 0; c < 2; ++c) {
    const uint from = (min(chunk + c, Chunks() - 1u) * params.pad + FirstToken()) * 16u;
    [[unroll]] for (uint j = 0; j < CHUNK_LOADS; ++j)
      moved[c * CHUNK_LOADS + j] = x[from + j * THREADS + Thread()];
  }
}

// Slots of four groups of a token come side by side, and go to where lanes find theirs so.
void StoreStage(uint side) {
  [[unroll]] for (uint c = 0; c < 2; ++c) {
    [[unroll]] for (uint j = 0; j < CHUNK_LOADS; ++j) {
      const uint slot = j * THREADS + Thread();
      const uint group = slot % 4u;
      stage[side * SIDE_SLOTS + group % 2u * HALF_SLOTS + slot - group + 2u * c + group / 2u] =
          moved[c * CHUNK_LOADS + j];
    }
  }
}

// Adds the products with word `word` of the lanes' groups `h`, whose activations begin at `start`.
void AddWord(uint h, uint word, uint start) {
  MatrixA low[2];
  MatrixA high[2];
  [[unroll]] for (uint m = 0; m < 2; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) {
      f16vec2 a, b, c, d;
      const f16vec2 of_both = Halves(now_scales[m][i]);
      Decode(now[m][i][h][word], 0u, f16vec2(h == 0u ? of_both.x : of_both.y), a, b, c, d);
      SetSlots(low[m], i * 4, a, b);
      SetSlots(high[m], i * 4, c, d);
    }
  }
  [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) {
    MatrixB x_low;
    MatrixB x_high;
    [[unroll]] for (uint i = 0; i < TILE_TOKENS / 8; ++i) {
      const uint eight = n * (TILE_TOKENS / 8) + i;
      const uvec4 slot = stage[start + (eight * 4u + word) * 32u + Lane()];
      SetSlots(x_low, i * 4, Halves(slot.x), Halves(slot.y));
      SetSlots(x_high, i * 4, Halves(slot.z), Halves(slot.w));
    }
    [[unroll]] for (uint m = 0; m < 2; ++m) sums[m][n] =
        coopMatMulAddNV(low[m], x_low, sums[m][n]);
    [[unroll]] for (uint m = 0; m < 2; ++m) sums[m][n] =
        coopMatMulAddNV(high[m], x_high, sums[m][n]);
  }
}

// Adds two chunks, which stand in `now` and on one side of the stage, and lets the next ones take
// their place.
void AddPair(uint chunk, uint end, uint side) {
  LoadNext(chunk + 2u);
  StoreStage(1u - side);
  LoadStage(chunk + 4u);
  [[unroll]] for (uint h = 0; h < 2; ++h) {
    // Never so. NVIDIA's compiler does better where it cannot move loads from half to half.
    if (chunk + h >= end) break;
    [[unroll]] for (uint word = 0; word < 4; ++word)
      AddWord(h, word, side * SIDE_SLOTS + h * HALF_SLOTS);
  }
  barrier();
  NextIsNow(chunk + 2u);
}

void main() {
  // A bucket may end with tokens that the step has not.
  if (FirstToken() >= StepRows(COUNT)) {
    ChainSignal();
    return;
  }
  [[unroll]] for (uint m = 0; m < 2; ++m) {
    [[unroll]] for (uint i = 0; i < 2; ++i) rows[m][i] = FindRow(RowOf(m, i * 8u + Lane() / 4u));
    [[unroll]] for (uint n = 0; n < TOKEN_TILES; ++n) sums[m][n] = MatrixC(0.0);
  }
  KeepConstants(StepRows(COUNT) & 0x80000000u);
  LoadNext(0u);
  ChainWait(ChainLook());
  NextIsNow(0u);
  LoadStage(0u);
  StoreStage(0u);
  LoadStage(2u);
  barrier();
  const uint end = (Chunks() + 1u) / 2u * 2u;
  uint side = 0u;
  for (uint chunk = 0u; chunk < end; chunk += 2u) {
    AddPair(chunk, end, side);
    side = 1u - side;
  }
  WriteSums();
  ChainSignal();
}
