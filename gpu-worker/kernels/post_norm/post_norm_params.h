#ifndef TANDEM_KERNELS_POST_NORM_POST_NORM_PARAMS_H_
#define TANDEM_KERNELS_POST_NORM_POST_NORM_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct PostNormParams {
  uint hidden;
  float epsilon;
};

TANDEM_SHARED_END

#endif
