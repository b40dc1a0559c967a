#ifndef TANDEM_KERNELS_DOT_PRODUCT_PARAMS_H_
#define TANDEM_KERNELS_DOT_PRODUCT_PARAMS_H_

#include "gpu-worker/kernels/common/chain_params.h"
#include "gpu-worker/kernels/common/shared_types.h"

TANDEM_SHARED_BEGIN

// Up to three int4 or int8 matrices of equal width, one behind the other, times activations:
// y[t][output_offset + r] = sum over c of matrix[r][c] * x[t][c], r counting through all of them.
struct ProductParams {
  uint rows;    // of all matrices together
  uint groups;  // of 32 columns
  uint output_stride;
  uint output_offset;
  // Row where the second and the third matrix begins; `rows` where there is none.
  uint second_row;
  uint third_row;
  // Of each matrix, from the start of the binding: its values in 16-byte blocks, its scales in
  // halves.
  uint values_a;
  uint values_b;
  uint values_c;
  uint scales_a;
  uint scales_b;
  uint scales_c;
  // Of the matrix kernels alone. `pad`: tokens of the activations' layout. Workgroups of z = p sum
  // a part of the columns, chunks_a_part chunks of 128 (even where there is more than one part),
  // into y + p * part_stride.
  uint pad;
  uint chunks_a_part;
  // With GEGLU there are no parts: `pad` of the output. With POST_NORM: the bits of epsilon.
  uint part_stride;
  float output_scale;
};

// The push constants of kernels with CHAINED.
struct ChainedProductParams {
  ProductParams params;
  ChainParams chain;
};

TANDEM_SHARED_END

#endif
