#ifndef TANDEM_KERNELS_QKV_ROPE_QKV_ROPE_PARAMS_H_
#define TANDEM_KERNELS_QKV_ROPE_QKV_ROPE_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct QkvRopeParams {
  float epsilon;
  float query_scale;  // 1/sqrt(query_pre_attn_scalar)
  uint window;        // 0: a global layer, else a sliding-window layer (its block tables are used)
};

TANDEM_SHARED_END

#endif
