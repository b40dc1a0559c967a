// The entry points of the kernels that work row by row: built for the cores and for the host.
#include "npu-worker/kernels/aie/row_kernels.h"

extern "C" {

void tandem_rms_norm(const float* x, const float* weights, int32 n, float inverse_n, float eps,
                     float* out) {
  tandem::npu::RmsNorm(x, weights, static_cast<unsigned>(n), inverse_n, eps, out);
}

void tandem_rotate(float* x, const float* cosines, const float* sines, int32 half, float scale) {
  tandem::npu::Rotate(x, cosines, sines, static_cast<unsigned>(half), scale);
}

void tandem_geglu(float* gate, const float* up, int32 n) {
  tandem::npu::GeGlu(gate, up, static_cast<unsigned>(n));
}

// `state`: the largest score and the total, two floats.
void tandem_attend_block(const float* query, const float* keys, const float* values, int32 count,
                         int32 dim, float* state, float* out) {
  tandem::npu::AttentionState now = {state[0], state[1]};
  tandem::npu::AttendBlock(query, keys, values, static_cast<unsigned>(count),
                           static_cast<unsigned>(dim), &now, out);
  state[0] = now.best;
  state[1] = now.total;
}

void tandem_attend_block_int8(const int8* query, float query_scale, const int8* keys,
                              const int8* values, int32 count, int32 dim, float* state,
                              float* out) {
  tandem::npu::AttentionState now = {state[0], state[1]};
  tandem::npu::AttendBlockInt8(query, query_scale, keys, values, static_cast<unsigned>(count),
                               static_cast<unsigned>(dim), &now, out);
  state[0] = now.best;
  state[1] = now.total;
}

}  // extern "C"
