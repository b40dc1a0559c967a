// One row of int8 or int4 weights times a few rows of quantised activations, for each instruction
// set. Highway 1.0.3 has no int8 dot product, so AVX-512 with VNNI and AVX2 are written with
// intrinsics; everything else takes the portable path. All give the same bits (kernels.h,
// Int8Product).

#if defined(TANDEM_INT8_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_INT8_ROW_INL_H_
#undef TANDEM_INT8_ROW_INL_H_
#else
#define TANDEM_INT8_ROW_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "lib/base/numeric.h"
#include "lib/device/cpu/kernels.h"

namespace tandem {
#ifndef TANDEM_INT8_ROW_INPUTS_
#define TANDEM_INT8_ROW_INPUTS_
// The quantised activations of some tokens; token t stands t strides further.
struct RowInputs {
  const std::int8_t* quants;
  const float* scales;
  const std::int32_t* sums;
  std::int64_t quant_stride;
  std::int64_t scale_stride;
};
#endif
}  // namespace tandem

#if HWY_TARGET == HWY_AVX3_DL
#include "lib/device/cpu/int8_row_vnni-inl.h"
// Behind the rows, whose definitions it uses.
#include "lib/device/cpu/int8_tile_vnni-inl.h"
#elif HWY_TARGET == HWY_AVX2
#include "lib/device/cpu/int8_row_avx2-inl.h"
#else
#include "lib/device/cpu/int8_row_portable-inl.h"
#endif

#endif  // TANDEM_INT8_ROW_INL_H_
