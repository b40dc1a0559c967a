#include <algorithm>
#include <cstdint>

#include "lib/device/cpu/kernels.h"
#include "lib/device/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/device/cpu/float_product.cc"
// Before what it includes again for each target.
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "hwy/highway.h"
#include "lib/device/cpu/weight_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// kRows x kTokens sums over all columns, one accumulator each; columns in order, so that every
// block size gives the same bits.
template <WeightFormat kFormat, int kRows, int kTokens>
HWY_INLINE void DotBlock(const MatrixView& w, std::int64_t row, const float* x,
                         std::int64_t x_stride, float* out, std::int64_t out_stride) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  constexpr std::int64_t kStep = RowDecoder<kFormat>::Step(kLanes);
  V sums[kRows][kTokens];
  for (auto& of_row : sums) {
    for (V& sum : of_row) sum = hn::Zero(d);
  }
  RowDecoder<kFormat> decoders[kRows];
  for (int r = 0; r < kRows; ++r) decoders[r].Start(w, row + r);

  std::int64_t col = 0;
  while (col + kLanes <= w.cols) {
    const std::int64_t chunk_end = RowDecoder<kFormat>::ChunkEnd(col, w.cols, kLanes);
    for (int r = 0; r < kRows; ++r) decoders[r].StartChunk(col, chunk_end);
    for (; col < chunk_end; col += kStep) {
      for (int r = 0; r < kRows; ++r) decoders[r].StartStep(col);
      HWY_UNROLL_ALL
      for (std::int64_t v = 0; v < kStep; v += kLanes) {
        V inputs[kTokens];
        HWY_UNROLL_ALL
        for (int t = 0; t < kTokens; ++t) {
          inputs[t] = hn::LoadU(d, x + t * x_stride + col + v);
        }
        HWY_UNROLL_ALL
        for (int r = 0; r < kRows; ++r) {
          const V weights = decoders[r].Load(d, col, v);
          HWY_UNROLL_ALL
          for (int t = 0; t < kTokens; ++t) {
            sums[r][t] = hn::MulAdd(weights, inputs[t], sums[r][t]);
          }
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) {
      float sum = hn::GetLane(hn::SumOfLanes(d, sums[r][t]));
      for (std::int64_t c = col; c < w.cols; ++c)
        sum += decoders[r].Scalar(c) * x[t * x_stride + c];
      out[t * out_stride + r] = sum;
    }
  }
}

template <WeightFormat kFormat>
void OneToken(const MatrixView& w, std::int64_t first_row, std::int64_t last_row, const float* x,
              float* out) {
  std::int64_t row = first_row;
  for (; row + kTileRows <= last_row; row += kTileRows)
    DotBlock<kFormat, kTileRows, 1>(w, row, x, 0, out + row, 0);
  for (; row < last_row; ++row) DotBlock<kFormat, 1, 1>(w, row, x, 0, out + row, 0);
}

template <int kRows>
void TileTimesTokens(const MatrixView& tile, const FloatRows& x, std::int64_t first_token,
                     std::int64_t last_token, float* out, std::int64_t out_stride) {
  constexpr auto kFormat = WeightFormat::kF32;
  std::int64_t t = first_token;
  for (; t + 4 <= last_token; t += 4) {
    DotBlock<kFormat, kRows, 4>(tile, 0, x.values + t * x.stride, x.stride, out + t * out_stride,
                                out_stride);
  }
  for (; t + 2 <= last_token; t += 2) {
    DotBlock<kFormat, kRows, 2>(tile, 0, x.values + t * x.stride, x.stride, out + t * out_stride,
                                out_stride);
  }
  for (; t < last_token; ++t) {
    DotBlock<kFormat, kRows, 1>(tile, 0, x.values + t * x.stride, x.stride, out + t * out_stride,
                                out_stride);
  }
}

// Dequantises kTileRows rows at a time and uses them for every token of a block whose activations
// stay in the second-level cache.
void ManyTokens(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                const FloatRows& x, float* tile, float* out, std::int64_t out_stride) {
  constexpr std::int64_t kBlockFloats = 96 * 1024;
  const std::int64_t block = std::clamp<std::int64_t>(kBlockFloats / w.cols / 4 * 4, 8, 128);
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    const std::int64_t end = std::min(begin + block, x.rows);
    for (std::int64_t row = first_row; row < last_row;) {
      const std::int64_t rows = row + kTileRows <= last_row ? kTileRows : 1;
      for (std::int64_t r = 0; r < rows; ++r) DecodeRow(w, row + r, 1.0f, tile + r * w.cols);
      const MatrixView view{WeightFormat::kF32, rows, w.cols,
                            reinterpret_cast<const std::uint8_t*>(tile), nullptr};
      if (rows == kTileRows) {
        TileTimesTokens<kTileRows>(view, x, begin, end, out + row, out_stride);
      } else {
        TileTimesTokens<1>(view, x, begin, end, out + row, out_stride);
      }
      row += rows;
    }
  }
}

void FloatProductImpl(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                      const FloatRows& x, float* tile, float* out, std::int64_t out_stride) {
  if (x.rows != 1) return ManyTokens(w, first_row, last_row, x, tile, out, out_stride);
  switch (w.format) {
    case WeightFormat::kF32:
      return OneToken<WeightFormat::kF32>(w, first_row, last_row, x.values, out);
    case WeightFormat::kBf16:
      return OneToken<WeightFormat::kBf16>(w, first_row, last_row, x.values, out);
    case WeightFormat::kInt8:
      return OneToken<WeightFormat::kInt8>(w, first_row, last_row, x.values, out);
    case WeightFormat::kInt4:
      return OneToken<WeightFormat::kInt4>(w, first_row, last_row, x.values, out);
  }
}

void ScaledRowImpl(const MatrixView& w, std::int64_t row, float scale, float* out) {
  DecodeRow(w, row, scale, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem {

HWY_EXPORT(FloatProductImpl);
HWY_EXPORT(ScaledRowImpl);

void FloatProduct(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                  const FloatRows& x, float* tile, float* out, std::int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(FloatProductImpl)(w, first_row, last_row, x, tile, out, out_stride);
}

void ScaledRow(const MatrixView& w, std::int64_t row, float scale, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaledRowImpl)(w, row, scale, out);
}

}  // namespace tandem
#endif
