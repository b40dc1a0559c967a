#include "npu-worker/kernels/host_kernels.h"

// aie/rows.cc; aie/product.cc and aie/attention.cc, compiled once for each generation under these
// names.
extern "C" {
void tandem_rows_begin(const float*, int*);
void tandem_rows_take(const float*, float*, int*);
void tandem_rows_give(const float*, int*, float*);
void tandem_attend_block(const float*, const float*, const float*, int, int, float*, float*);
void tandem_attend_block_int8(const signed char*, float, const signed char*, const signed char*,
                              int, int, float*, float*);
void tandem_product_zero_aie2(float* sums);
void tandem_product_int8_aie2(const signed char*, const signed char*, float*);
void tandem_product_int4_aie2(const signed char*, const signed char*, float*);
void tandem_product_zero_aie2p(float* sums);
void tandem_product_int8_aie2p(const signed char*, const signed char*, float*);
void tandem_product_int4_aie2p(const signed char*, const signed char*, float*);
void tandem_attention_begin_aie2(const signed char*, signed char*, float*);
void tandem_attention_chunk_aie2(const signed char*, const signed char*, signed char*, float*);
void tandem_attention_end_aie2(const signed char*, signed char*, float*);
void tandem_attention_begin_aie2p(const signed char*, signed char*, float*);
void tandem_attention_chunk_aie2p(const signed char*, const signed char*, signed char*, float*);
void tandem_attention_end_aie2p(const signed char*, signed char*, float*);
}

namespace tandem::npu {

const HostKernels& HostKernelsFor(const ArrayShape& array) {
  static constexpr HostKernels kAie2 = {tandem_product_zero_aie2, tandem_product_int8_aie2,
                                        tandem_product_int4_aie2};
  static constexpr HostKernels kAie2p = {tandem_product_zero_aie2p, tandem_product_int8_aie2p,
                                         tandem_product_int4_aie2p};
  return array.instruction_rows == kAie2Array.instruction_rows ? kAie2 : kAie2p;
}

const HostAttentionKernels& HostAttentionFor(const ArrayShape& array) {
  static constexpr HostAttentionKernels kAie2 = {
      tandem_attention_begin_aie2, tandem_attention_chunk_aie2, tandem_attention_end_aie2};
  static constexpr HostAttentionKernels kAie2p = {
      tandem_attention_begin_aie2p, tandem_attention_chunk_aie2p, tandem_attention_end_aie2p};
  return array.instruction_rows == kAie2Array.instruction_rows ? kAie2 : kAie2p;
}

const HostRowKernels& HostRows() {
  static constexpr HostRowKernels kRows = {tandem_rows_begin, tandem_rows_take, tandem_rows_give,
                                           tandem_attend_block, tandem_attend_block_int8};
  return kRows;
}

}  // namespace tandem::npu
