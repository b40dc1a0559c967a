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
// Of two tiles: as many as there are registers for.
constexpr int kMostTokens = 6;

template <int kTiles>
void TilesTimesAll(const Int8Tile* tiles, const QuantizedRows& x, std::int64_t first_token,
                   std::int64_t last_token, float* out, std::int64_t out_stride) {
  for (std::int64_t t = first_token; t < last_token;) {
    const RowInputs inputs = InputsAt(x, x.biased, t);
    float* const to = out + t * out_stride;
    const std::int64_t left = last_token - t;
    // Eight are better halved.
    if (left >= kMostTokens && left != 8) {
      TilesTimesTokens<kTiles, kMostTokens>(tiles, inputs, to, out_stride);
      t += kMostTokens;
    } else if (left >= 4) {
      TilesTimesTokens<kTiles, 4>(tiles, inputs, to, out_stride);
      t += 4;
    } else if (left >= 2) {
      TilesTimesTokens<kTiles, 2>(tiles, inputs, to, out_stride);
      t += 2;
    } else {
      TilesTimesTokens<kTiles, 1>(tiles, inputs, to, out_stride);
      t += 1;
    }
  }
}

// Packs twice 16 rows at a time and uses them for all tokens; returns the first row that is left
// over.
template <bool kInt4>
std::int64_t TileByTile(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                        const QuantizedRows& x, void* scratch, float* out,
                        std::int64_t out_stride) {
  const std::int64_t groups = w.cols / kGroupSize;
  auto* memory = static_cast<std::byte*>(scratch);
  const Int8Tile tiles[] = {Int8Tile::At(memory, groups),
                            Int8Tile::At(memory + Int8Tile::Bytes(groups), groups)};
  // Activations of a block of tokens stay in the second-level cache while the rows go by.
  constexpr std::int64_t kBlockBytes = 512 * 1024;
  const std::int64_t fit =
      std::max<std::int64_t>(kBlockBytes / w.cols / kMostTokens * kMostTokens, kMostTokens);
  const std::int64_t blocks = (x.rows + fit - 1) / fit;
  const std::int64_t block =
      (x.rows + blocks * kMostTokens - 1) / (blocks * kMostTokens) * kMostTokens;
  const std::int64_t end = first_row + (last_row - first_row) / Int8Tile::kRows * Int8Tile::kRows;
  for (std::int64_t begin = 0; begin < x.rows; begin += block) {
    const std::int64_t last = std::min(begin + block, x.rows);
    std::int64_t row = first_row;
    for (; row + 2 * Int8Tile::kRows <= end; row += 2 * Int8Tile::kRows) {
      PackTile<kInt4>(w, row, tiles[0]);
      PackTile<kInt4>(w, row + Int8Tile::kRows, tiles[1]);
      TilesTimesAll<2>(tiles, x, begin, last, out + row, out_stride);
    }
    if (row < end) {
      PackTile<kInt4>(w, row, tiles[0]);
      TilesTimesAll<1>(tiles, x, begin, last, out + row, out_stride);
    }
  }
  return end;
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

// Where the quants of a group go; each plane is written once and not read again.
struct GroupPlanes {
  std::int8_t* plain;
  std::int8_t* split;
  std::int8_t* biased;

  template <class D, class Vector>
  HWY_INLINE void Store(D d, Vector quants, std::int64_t i) const {
    hn::StoreU(quants, d, plain + i);
    hn::StoreU(quants, d, split + (i < 16 ? i : 64 + i - 16));
    hn::StoreU(hn::Xor(quants, hn::Set(d, std::int8_t{-128})), d, biased + i);
  }
};

// 32 values to int8, rounded to nearest, ties to even.
HWY_INLINE void QuantizeGroup(const float* x, const GroupPlanes& to, float* scale,
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
    to.Store(d8, hn::DemoteTo(d8, q), i);
  }
  *sum = hn::GetLane(hn::SumOfLanes(di, total));
}

void QuantizeColumnsImpl(const float* x, std::int64_t first_col, std::int64_t last_col,
                         std::int64_t cols, std::int64_t row, const QuantizedRows& out) {
  const std::int64_t at = row * out.cols_padded;
  float* scales = out.scales + at / kGroupSize;
  std::int32_t* sums = out.sums + at / kGroupSize;
  const auto planes = [&](std::int64_t g) {
    return GroupPlanes{out.plain + at + g * kGroupSize, out.split + at + g / 4 * 128 + g % 4 * 16,
                       out.biased + at + g * kGroupSize};
  };
  std::int64_t g = first_col / kGroupSize;
  for (; g < last_col / kGroupSize; ++g)
    QuantizeGroup(x + g * kGroupSize, planes(g), scales + g, sums + g);
  if (last_col != cols) return;
  const hn::ScalableTag<float> d;
  const hn::Rebind<std::int8_t, decltype(d)> d8;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  for (; g < out.cols_padded / kGroupSize; ++g) {
    for (std::int64_t i = 0; i < kGroupSize; i += kLanes) planes(g).Store(d8, hn::Zero(d8), i);
    scales[g] = 0;
    sums[g] = 0;
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem {

HWY_EXPORT(Int8ProductImpl);
HWY_EXPORT(QuantizeColumnsImpl);

void Int8Product(const MatrixView& w, std::int64_t first_row, std::int64_t last_row,
                 const QuantizedRows& x, void* scratch, float* out, std::int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(Int8ProductImpl)(w, first_row, last_row, x, scratch, out, out_stride);
}

void QuantizeActivations(const float* x, std::int64_t cols, std::int64_t row,
                         const QuantizedRows& out) {
  QuantizeColumns(x, 0, cols, cols, row, out);
}

void QuantizeColumns(const float* x, std::int64_t first, std::int64_t last, std::int64_t cols,
                     std::int64_t row, const QuantizedRows& out) {
  HWY_DYNAMIC_DISPATCH(QuantizeColumnsImpl)(x, first, last, cols, row, out);
}

}  // namespace tandem
#endif
