#ifndef TANDEM_KERNELS_GEGLU_GEGLU_PARAMS_H_
#define TANDEM_KERNELS_GEGLU_GEGLU_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct GegluParams {
  uint ffn;  // a multiple of 4
  uint pad;  // tokens of the float16 layout of activations
  float output_scale;
};

TANDEM_SHARED_END

#endif
