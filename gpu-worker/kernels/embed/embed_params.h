#ifndef TANDEM_KERNELS_EMBED_EMBED_PARAMS_H_
#define TANDEM_KERNELS_EMBED_EMBED_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct EmbedParams {
  uint first_row;  // of the vocabulary, in this chunk of the matrix
  uint rows;       // of this chunk
  uint hidden;
  float scale;
};

TANDEM_SHARED_END

#endif
