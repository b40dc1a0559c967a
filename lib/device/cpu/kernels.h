#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "lib/device/stage.h"
#include "lib/model/kinds.h"
#include "lib/model/kv_layout.h"
#include "lib/weights/region.h"

namespace tandem {

// The arithmetic of the CPU device. Each function is compiled for several instruction sets
// (Highway) and the best one that the machine has is called. All are reentrant, allocate nothing
// and check nothing: shapes are the caller's promise.

// The instruction set in use: "AVX3_DL", "AVX2", "SSE4", "EMU128".
std::string CpuTargetName();

// A matrix as it lies in a region: rows contiguous, lib/weights/format.h.
struct MatrixView {
  WeightFormat format = WeightFormat::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const std::uint8_t* values = nullptr;
  const std::uint16_t* scales = nullptr;  // (rows, cols / 32) fp16; null for f32 and bf16
};
MatrixView ViewOf(const TensorView& tensor);
inline bool IsQuantized(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
}

// Rows of float32 vectors, `stride` floats apart.
struct FloatRows {
  const float* values = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
};

// out[t * out_stride + r] = sum over c of w[r][c] * x[t][c], for r in [first_row, last_row). The
// bits of a value depend on its row of w and its row of x alone, not on how many others are
// computed with it. `tile`: kTileRows * cols floats of scratch.
inline constexpr std::int64_t kTileRows = 4;
void FloatProduct(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                  const FloatRows& x, float* tile, float* out, std::int64_t out_stride);

// Activations quantised per group of 32: value = q * scale, scale = absmax / 127. Rows are padded
// with zeros to whole chunks of 16 groups.
inline constexpr std::int64_t kChunkGroups = 16;
struct QuantizedRows {
  std::int8_t* plain = nullptr;  // columns in order; rows cols_padded apart
  // per 4 groups: columns 0-15 of each, then columns 16-31 of each, to meet the nibbles of int4
  std::int8_t* split = nullptr;
  float* scales = nullptr;       // rows cols_padded / 32 apart
  std::int32_t* sums = nullptr;  // sum of a group's q; as scales
  std::int64_t cols_padded = 0;  // a multiple of 32 * kChunkGroups
  std::int64_t rows = 0;
  std::int8_t* biased = nullptr;  // as plain, q + 128 as an unsigned byte
};
void QuantizeActivations(const float* x, std::int64_t cols, std::int64_t row,
                         const QuantizedRows& out);
// The columns [first, last) of such a row, multiples of 32; with the last ones (last == cols) what
// pads it.
void QuantizeColumns(const float* x, std::int64_t first, std::int64_t last, std::int64_t cols,
                     std::int64_t row, const QuantizedRows& out);

// The same product with int8 or int4 weights. Group sums are exact integers; group g adds w_scale *
// x_scale * sum to lane g % 16 (two roundings, no fused multiply-add) and the lanes are added as a
// tree: every instruction set gives the same bits. `scratch`: Int8ScratchBytes(cols), aligned to 64
// bytes; unused for fewer than kInt8TileTokens rows of x.
inline constexpr std::int64_t kInt8TileTokens = 3;
inline constexpr std::int64_t Int8ScratchBytes(std::int64_t cols) { return 40 * cols; }
void Int8Product(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                 const QuantizedRows& x, void* scratch, float* out, std::int64_t out_stride);

// out = row `row` of w, times `scale`.
void ScaledRow(const MatrixView& w, std::int64_t row, float scale, float* out);

// out[i] = x[i] / rms(x) * weights[i]; in place is fine.
void RmsNormRow(const float* x, const float* weights, std::int64_t n, float eps, float* out);
// out[i] = base[i] + x[i] / rms(x) * weights[i]; out may be base.
void AddRmsNormRow(const float* base, const float* x, const float* weights, std::int64_t n,
                   float eps, float* out);

// gate[i] = gelu_tanh(gate[i]) * up[i].
void GeGluRow(float* gate, const float* up, std::int64_t n);

// Turns (x[i], x[i + n/2]) by the angle i and multiplies by `scale`; cosines and sines hold n / 2
// values.
void RotateRow(float* x, const float* cosines, const float* sines, std::int64_t n, float scale);

// Writes n values as those of a token, 0 to kKvBlockTokens - 1, of a head of a block, which is laid
// out as lib/model/kv_layout.h says.
void StoreKv(const float* x, std::int64_t n, KvType type, std::byte* head, std::int64_t token);

// Query heads that share a head of the cache: softmax(q · keys) values, in order of position. A
// head's bits do not depend on how many are computed with it.
struct AttendJob {
  const float* query = nullptr;  // (heads, head_dim), scaled already
  float* out = nullptr;          // (heads, head_dim)
  std::int64_t heads = 1;
  // the head in block 0, as lib/model/kv_layout.h says
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  std::int64_t block_bytes = 0;          // from a block to the next
  const std::int32_t* blocks = nullptr;  // the sequence's block table
  std::int64_t first_position = 0;       // keys [first_position, last_position]
  std::int64_t last_position = 0;
  std::int64_t head_dim = 0;
  KvType type = KvType::kFloat32;
};
void Attend(const AttendJob& job);

}  // namespace tandem
