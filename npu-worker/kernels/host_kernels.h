#pragma once

#include "npu-worker/kernels/tile_shape.h"

namespace tandem::npu {

// The kernels as the host compiles them, over host_aie_api: for tests, for the stand-in of the
// kernel driver and for a self-test on hardware to compare with. Buffers as tile_shape.h has them,
// aligned to 32 bytes.
struct HostKernels {
  void (*zero)(float* sums);
  void (*int8)(const signed char* weights, const signed char* activations, float* sums);
  void (*int4)(const signed char* weights, const signed char* activations, float* sums);
};
// kAie2Array or kAie2pArray, by their instruction.
const HostKernels& HostKernelsFor(const ArrayShape& array);

// Those of aie/attention.cc: buffers as attention_shape.h has them, aligned to 64 bytes.
struct HostAttentionKernels {
  void (*begin)(const signed char* queries, signed char* progress, float* out);
  void (*chunk)(const signed char* queries, const signed char* keys_values, signed char* progress,
                float* out);
  void (*end)(const signed char* queries, signed char* progress, float* out);
};
const HostAttentionKernels& HostAttentionFor(const ArrayShape& array);

// Those of aie/rows.cc, which are the same for both generations: for tests.
struct HostRowKernels {
  // Buffers as rows_shape.h has them, aligned to 64 bytes.
  void (*begin)(const float* pair, int* progress);
  void (*take)(const float* pair, float* row, int* progress);
  void (*give)(const float* row, int* progress, float* out);
  void (*attend_block)(const float* query, const float* keys, const float* values, int count,
                       int dim, float* state, float* out);
  void (*attend_block_int8)(const signed char* query, float query_scale, const signed char* keys,
                            const signed char* values, int count, int dim, float* state,
                            float* out);
};
const HostRowKernels& HostRows();

}  // namespace tandem::npu
