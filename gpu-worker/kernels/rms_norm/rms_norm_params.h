#ifndef TANDEM_KERNELS_RMS_NORM_RMS_NORM_PARAMS_H_
#define TANDEM_KERNELS_RMS_NORM_RMS_NORM_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct RmsNormParams {
  uint hidden;
  float epsilon;
  uint pad;  // tokens of the float16 layout of activations
};

TANDEM_SHARED_END

#endif
