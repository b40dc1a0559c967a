#ifndef TANDEM_KERNELS_ATTENTION_ATTENTION_PARAMS_H_
#define TANDEM_KERNELS_ATTENTION_ATTENTION_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct AttentionParams {
  uint window;  // 0: every earlier key is seen; else a query at p sees keys in (p - window, p]
  uint pad;     // tokens of the float16 layout of activations
  // Not 0: later keys are seen, too, up to the last of the sequence's step; with a window those in
  // (p - window, p + window).
  uint bidirectional;
};

TANDEM_SHARED_END

#endif
