#include <algorithm>
#include <cmath>
#include <cstdint>

#include "lib/device/cpu/kernels.h"
#include "lib/device/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/device/cpu/int8_product.cc"
// Before what it includes again for each target.
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "hwy/highway.h"
#include "lib/device/cpu/int8_row-inl.h"

// This file is compiled without contraction of a * b + c: the product's bits must not depend on the
// instruction set.
HWY_BEFORE_NAMESPACE();
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

RowInputs InputsAt(const QuantizedRows& x, const std::int8_t* quants, std::int64_t token) {
  const std::int64_t scale_stride = x.cols_padded / kGroupSize;
  return {quants + token * x.cols_padded, x.scales + token * scale_stride,
          x.sums + token * scale_stride, x.cols_padded, scale_stride};
}

// One row after another: for few tokens, and for what a tile leaves over.
template <bool kInt4>
void RowByRow(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
              const QuantizedRows& x, float* out, std::int64_t out_stride) {
  // Activations of a block of tokens stay in the first-level cache while the rows go by.
  constexpr std::int64_t kBlockBytes = 24 * 1024;
  const std::int64_t block = std::clamp<std::int64_t>(kBlockBytes / x.cols_padded / 4 * 4, 4, 64);
  const std::int64_t groups = w.cols / kGroupSize;
  const std::int8_t* quants = kInt4 ? x.split : x.plain;
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    const std::int64_t end = std::min(begin + block, x.rows);
    for (std::int64_t row = first_row; row < last_row; ++row) {
      const std::uint8_t* values = w.values + row * groups * (kInt4 ? 16 : 32);
      const std::uint16_t* scales = w.scales + row * groups;
      float* to = out + row;
      std::int64_t t = begin;
      for (; t + 4 <= end; t += 4) {
        RowTimesTokens<kInt4, 4>(values, scales, groups, InputsAt(x, quants, t),
                                 to + t * out_stride, out_stride);
      }
      for (; t + 2 <= end; t += 2) {
        RowTimesTokens<kInt4, 2>(values, scales, groups, InputsAt(x, quants, t),
                                 to + t * out_stride, out_stride);
      }
      for (; t < end; ++t) {
        RowTimesTokens<kInt4, 1>(values, scales, groups, InputsAt(x, quants, t),
                                 to + t * out_stride, out_stride);
      }
    }
  }
}

#if HWY_TARGET == HWY_AVX3_DL
// Packs 16 rows at a time and uses them for all tokens; returns the first row that is left over.
template <bool kInt4>
std::int64_t TileByTile(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                        const QuantizedRows& x, void* scratch, float* out,
                        std::int64_t out_stride) {
  const std::int64_t groups = w.cols / kGroupSize;
  auto* bytes = static_cast<std::uint8_t*>(scratch);
  const Int8Tile tile{bytes, reinterpret_cast<float*>(bytes + groups * Int8Tile::kGroupBytes),
                      groups};
  std::int64_t row = first_row;
  for (; row + Int8Tile::kRows <= last_row; row += Int8Tile::kRows) {
    PackTile<kInt4>(w, row, tile);
    float* to = out + row;
    std::int64_t t = 0;
    for (; t + 8 <= x.rows; t += 8) {
      TileTimesTokens<kInt4, 8>(tile, InputsAt(x, x.plain, t), to + t * out_stride, out_stride);
    }
    for (; t + 4 <= x.rows; t += 4) {
      TileTimesTokens<kInt4, 4>(tile, InputsAt(x, x.plain, t), to + t * out_stride, out_stride);
    }
    for (; t + 2 <= x.rows; t += 2) {
      TileTimesTokens<kInt4, 2>(tile, InputsAt(x, x.plain, t), to + t * out_stride, out_stride);
    }
    for (; t < x.rows; ++t) {
      TileTimesTokens<kInt4, 1>(tile, InputsAt(x, x.plain, t), to + t * out_stride, out_stride);
    }
  }
  return row;
}
#endif

template <bool kInt4>
void ProductOf(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
               const QuantizedRows& x, [[maybe_unused]] void* scratch, float* out,
               std::int64_t out_stride) {
#if HWY_TARGET == HWY_AVX3_DL
  if (x.rows >= kInt8TileTokens) {  // for fewer, packing costs more than it saves
    first_row = TileByTile<kInt4>(w, first_row, last_row, x, scratch, out, out_stride);
  }
#endif
  RowByRow<kInt4>(w, first_row, last_row, x, out, out_stride);
}

void Int8ProductImpl(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                     const QuantizedRows& x, void* scratch, float* out, std::int64_t out_stride) {
  if (w.format == WeightFormat::kInt4)
    return ProductOf<true>(w, first_row, last_row, x, scratch, out, out_stride);
  ProductOf<false>(w, first_row, last_row, x, scratch, out, out_stride);
}

// 32 values to int8, rounded to nearest, ties to even.
HWY_INLINE void QuantizeGroup(const float* x, std::int8_t* quants, float* scale,
                              std::int32_t* sum) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<std::int8_t, decltype(d)> d8;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  auto most = hn::Zero(d);
  for (std::int64_t i = 0; i < kGroupSize; i += kLanes)
    most = hn::Max(most, hn::Abs(hn::LoadU(d, x + i)));
  const float absmax = hn::GetLane(hn::MaxOfLanes(d, most));
  // Below this, 127 / absmax would overflow; such a group is all but zero.
  const bool zero = !(absmax > 1e-36f);
  const auto inverse = hn::Set(d, zero ? 0.0f : 127.0f / absmax);
  *scale = zero ? 0.0f : absmax / 127.0f;
  auto total = hn::Zero(di);
  for (std::int64_t i = 0; i < kGroupSize; i += kLanes) {
    const auto q = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), inverse));
    total = hn::Add(total, q);
    hn::StoreU(hn::DemoteTo(d8, q), d8, quants + i);
  }
  *sum = hn::GetLane(hn::SumOfLanes(di, total));
}

void QuantizeActivationsImpl(const float* x, std::int64_t cols, std::int64_t row,
                             const QuantizedRows& out) {
  std::int8_t* plain = out.plain + row * out.cols_padded;
  std::int8_t* split = out.split + row * out.cols_padded;
  float* scales = out.scales + row * (out.cols_padded / kGroupSize);
  std::int32_t* sums = out.sums + row * (out.cols_padded / kGroupSize);
  for (std::int64_t g = 0; g < out.cols_padded / kGroupSize; ++g) {
    std::int8_t* quants = plain + g * kGroupSize;
    if (g < cols / kGroupSize) {
      QuantizeGroup(x + g * kGroupSize, quants, scales + g, sums + g);
    } else {
      std::fill_n(quants, kGroupSize, std::int8_t{0});
      scales[g] = 0;
      sums[g] = 0;
    }
    std::int8_t* first = split + g / 4 * 128 + g % 4 * 16;
    std::copy_n(quants, 16, first);
    std::copy_n(quants + 16, 16, first + 64);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem {

HWY_EXPORT(Int8ProductImpl);
HWY_EXPORT(QuantizeActivationsImpl);

void Int8Product(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                 const QuantizedRows& x, void* scratch, float* out, std::int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(Int8ProductImpl)(w, first_row, last_row, x, scratch, out, out_stride);
}

void QuantizeActivations(const float* x, std::int64_t cols, std::int64_t row,
                         const QuantizedRows& out) {
  HWY_DYNAMIC_DISPATCH(QuantizeActivationsImpl)(x, cols, row, out);
}

}  // namespace tandem
#endif
