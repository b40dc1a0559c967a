#ifndef TANDEM_KERNELS_PROBE_PROBE_PARAMS_H_
#define TANDEM_KERNELS_PROBE_PROBE_PARAMS_H_

#include "gpu-worker/kernels/common/chain_params.h"
#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct ProbeParams {
  uint seed;
};
struct ChainedProbeParams {
  ProbeParams params;
  ChainParams chain;
};

TANDEM_SHARED_END

#endif
