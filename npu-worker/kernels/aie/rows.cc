// The entry points of the kernels that work row by row: built for the cores and for the host.
#include "npu-worker/kernels/aie/row_kernels.h"

extern "C" {

// A call's first pair.
void tandem_rows_begin(const float* pair, int32* progress) {
  auto* now = reinterpret_cast<tandem::npu::RowsProgress*>(progress);
  *now = {};
  now->header = *reinterpret_cast<const tandem::npu::RowsHeader*>(pair);
}

void tandem_rows_take(const float* pair, float* row, int32* progress) {
  tandem::npu::TakeChunk(pair, reinterpret_cast<tandem::npu::RowsProgress*>(progress), row);
}

void tandem_rows_give(const float* row, int32* progress, float* out) {
  tandem::npu::GiveChunk(row, reinterpret_cast<tandem::npu::RowsProgress*>(progress), out);
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
