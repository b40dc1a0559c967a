#ifndef TANDEM_KERNELS_MATRIX_MATRIX_MAP_H_
#define TANDEM_KERNELS_MATRIX_MATRIX_MAP_H_

#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

// What matrix_map.comp writes: for each of 32 lanes the numbers of A's elements in its first slots,
// then of B's; all bits set where a lane has fewer slots.
TANDEM_SHARED_CONST(kFragmentSlots, 8)

TANDEM_SHARED_END

#endif
