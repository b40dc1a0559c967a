#ifndef TANDEM_KERNELS_DECODE_DECODE_PARAMS_H_
#define TANDEM_KERNELS_DECODE_DECODE_PARAMS_H_

#include "gpu-worker/kernels/common/chain_params.h"
#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct DecodeParams {
  float epsilon;
  float query_scale;  // 1/sqrt(query_pre_attn_scalar)
  uint window;       // 0: every earlier key is seen; else a query at p sees keys in (p - window, p]
  uint part_stride;  // floats from one part of qkv to the next
  uint pad;          // tokens of the float16 layout of activations
};

// The push constants of kernels with CHAINED.
struct ChainedDecodeParams {
  DecodeParams params;
  ChainParams chain;
};

// Workgroups that share a result count themselves in words of one buffer, all 0 between dispatches:
// first that of products, then one for each token and workgroup of a token's heads.
TANDEM_SHARED_CONST(kProductCounter, 0)
TANDEM_SHARED_CONST(kFirstDecodeCounter, 1)

TANDEM_SHARED_END

#endif
