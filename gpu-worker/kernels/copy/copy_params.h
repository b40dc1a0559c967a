#ifndef TANDEM_KERNELS_COPY_COPY_PARAMS_H_
#define TANDEM_KERNELS_COPY_COPY_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct CopyParams {
  uint blocks;  // of 16 bytes
};

TANDEM_SHARED_END

#endif
