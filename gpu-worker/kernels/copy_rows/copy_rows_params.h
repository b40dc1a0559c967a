#ifndef TANDEM_KERNELS_COPY_ROWS_COPY_ROWS_PARAMS_H_
#define TANDEM_KERNELS_COPY_ROWS_COPY_ROWS_PARAMS_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

struct CopyRowsParams {
  uint columns;  // of a row, a multiple of 4
};

TANDEM_SHARED_END

#endif
