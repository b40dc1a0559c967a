#ifndef TANDEM_KERNELS_PROBE_PROBE_PARAMS_H_
#define TANDEM_KERNELS_PROBE_PROBE_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct ProbeParams {
  uint seed;
};

TANDEM_SHARED_END

#endif
