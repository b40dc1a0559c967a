#ifndef TANDEM_KERNELS_COMMON_CHAIN_PARAMS_H_
#define TANDEM_KERNELS_COMMON_CHAIN_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

// How a dispatch hangs on the one in front of it (chain.glsl). Stands behind a kernel's own
// parameters.
struct ChainParams {
  uint wait_at;    // word in which workgroups of the one in front count themselves
  uint wait_for;   // how many do; 0: they are done in any case
  uint signal_at;  // word in which this one's workgroups count themselves
  uint polls;      // how often a word is looked at, at most
};

// The words of a chain, all 0 in front of it, in lines that no two dispatches share: the first
// begins with kChainFailed, 1 once a wait was given up; in the others dispatches are counted.
TANDEM_SHARED_CONST(kChainFailed, 0)
TANDEM_SHARED_CONST(kChainLine, 32)

TANDEM_SHARED_END

#if !defined(__cplusplus) && defined(CHAINED)
#define CHAIN_LINK ChainParams chain;
#elif !defined(__cplusplus)
#define CHAIN_LINK
#endif

#endif
