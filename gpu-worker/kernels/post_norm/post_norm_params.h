#ifndef TANDEM_KERNELS_POST_NORM_POST_NORM_PARAMS_H_
#define TANDEM_KERNELS_POST_NORM_POST_NORM_PARAMS_H_

#include "gpu-worker/kernels/common/chain_params.h"
#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct PostNormParams {
  uint hidden;
  float epsilon;
  uint part_stride;  // floats from one part of the branch to the next
  uint pad;          // tokens of the float16 layout of activations
};

// The push constants of kernels with CHAINED.
struct ChainedPostNormParams {
  PostNormParams params;
  ChainParams chain;
};

TANDEM_SHARED_END

#endif
