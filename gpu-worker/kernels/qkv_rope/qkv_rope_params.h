#ifndef TANDEM_KERNELS_QKV_ROPE_QKV_ROPE_PARAMS_H_
#define TANDEM_KERNELS_QKV_ROPE_QKV_ROPE_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct QkvRopeParams {
  float epsilon;
  float query_scale;  // 1/sqrt(query_pre_attn_scalar)
  uint window;        // 0: a global layer, else a sliding-window layer (its block tables are used)
  uint part_stride;   // floats from one part of qkv to the next
};

TANDEM_SHARED_END

#endif
