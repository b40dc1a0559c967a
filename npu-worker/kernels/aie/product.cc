// What the design calls on each core. Built once for each generation of the array, by
// tandem-npu-kernels.
#include "npu-worker/kernels/aie/product_kernel.h"

namespace {
#if __AIE_ARCH__ == 20
constexpr unsigned kInstructionRows = tandem::npu::kAie2Array.instruction_rows;
#elif __AIE_ARCH__ == 21
constexpr unsigned kInstructionRows = tandem::npu::kAie2pArray.instruction_rows;
#else
#error "expected an AIE2 (20) or AIE2P (21) core"
#endif
}  // namespace

extern "C" {

void tandem_product_zero(float* sums) { tandem::npu::ZeroSums(sums); }

void tandem_product_int8(const int8* weights, const int8* activations, float* sums) {
  tandem::npu::ProductChunk<kInstructionRows, false>(weights, activations, sums);
}

void tandem_product_int4(const int8* weights, const int8* activations, float* sums) {
  tandem::npu::ProductChunk<kInstructionRows, true>(weights, activations, sums);
}

}  // extern "C"
