#ifndef TANDEM_KERNELS_MATVEC_MATMUL_PARAMS_H_
#define TANDEM_KERNELS_MATVEC_MATMUL_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

// Of both matrix kernels: y[t][output_offset + r] = sum over c of matrix[r][c] * x[t][c].
struct MatmulParams {
  uint rows;  // of the matrix (or of this chunk of it)
  uint cols;
  uint output_stride;  // floats from one row of y to the next
  uint output_offset;
};

TANDEM_SHARED_END

#endif
