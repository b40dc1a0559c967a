// Rows of weights as float32 vectors, for each instruction set. Every value is exact: a quant has
// at most 8 significant bits and an fp16 scale 11, so their product fits float32.

#if defined(TANDEM_WEIGHT_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_WEIGHT_DECODE_INL_H_
#undef TANDEM_WEIGHT_DECODE_INL_H_
#else
#define TANDEM_WEIGHT_DECODE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "lib/base/numeric.h"
#include "lib/device/cpu/kernels.h"

// A loop over an array of vectors must unroll, or the array lands in memory.
#undef HWY_UNROLL_ALL
#define HWY_UNROLL_ALL HWY_PRAGMA_UNROLL_16
#undef HWY_PRAGMA_UNROLL_16
#if HWY_COMPILER_GCC_ACTUAL
#define HWY_PRAGMA_UNROLL_16 _Pragma("GCC unroll 16")
#else
#define HWY_PRAGMA_UNROLL_16
#endif

HWY_BEFORE_NAMESPACE();
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Reads one row. Start(row); for each chunk [col, end): StartChunk; for each Step() columns of it:
// StartStep, and Load of its vectors.
template <WeightFormat kFormat>
class RowDecoder;

// No scales: one chunk is all whole vectors of the row.
class PlainChunks {
 public:
  static std::int64_t ChunkEnd(std::int64_t col, std::int64_t cols, std::int64_t lanes) {
    return col + (cols - col) / lanes * lanes;
  }
  // Columns that one Load loop covers: a vector.
  static constexpr std::int64_t Step(std::int64_t lanes) { return lanes; }
  HWY_INLINE void StartChunk(std::int64_t, std::int64_t) {}
  HWY_INLINE void StartStep(std::int64_t) {}
};

template <>
class RowDecoder<WeightFormat::kF32> : public PlainChunks {
 public:
  HWY_INLINE void Start(const MatrixView& w, std::int64_t row) {
    values_ = reinterpret_cast<const float*>(w.values) + row * w.cols;
  }
  template <class D>
  HWY_INLINE hn::Vec<D> Load(D d, std::int64_t col, std::int64_t offset) const {
    return hn::LoadU(d, values_ + col + offset);
  }
  float Scalar(std::int64_t col) const { return values_[col]; }

 private:
  const float* values_ = nullptr;
};

template <>
class RowDecoder<WeightFormat::kBf16> : public PlainChunks {
 public:
  HWY_INLINE void Start(const MatrixView& w, std::int64_t row) {
    values_ = reinterpret_cast<const std::uint16_t*>(w.values) + row * w.cols;
  }
  template <class D>
  HWY_INLINE hn::Vec<D> Load(D d, std::int64_t col, std::int64_t offset) const {
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<std::uint16_t, D> d16;
    return hn::BitCast(
        d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, values_ + col + offset))));
  }
  float Scalar(std::int64_t col) const { return Bf16ToFloat(values_[col]); }

 private:
  const std::uint16_t* values_ = nullptr;
};

// fp16 scales of up to kChunkGroups groups as float32.
HWY_INLINE void LoadScales(const std::uint16_t* scales, std::int64_t groups, float* out) {
  const hn::CappedTag<float, 4> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  std::int64_t g = 0;
  for (; g + kLanes <= groups; g += kLanes) {
    const auto half = hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(scales + g));
    hn::StoreU(hn::PromoteTo(d, half), d, out + g);
  }
  for (; g < groups; ++g) out[g] = HalfToFloat(scales[g]);
}

class GroupChunks {
 public:
  static std::int64_t ChunkEnd(std::int64_t col, std::int64_t cols, std::int64_t) {
    return std::min(col + kChunkGroups * kGroupSize, cols);
  }
  // A group; its scale is in a register while its vectors are loaded.
  static constexpr std::int64_t Step(std::int64_t) { return kGroupSize; }
  HWY_INLINE void StartChunk(std::int64_t col, std::int64_t end) {
    chunk_ = col;
    LoadScales(row_scales_ + col / kGroupSize, (end - col) / kGroupSize, chunk_scales_);
  }
  HWY_INLINE void StartStep(std::int64_t col) {
    scale_ = hn::Set(hn::ScalableTag<float>(), chunk_scales_[(col - chunk_) / kGroupSize]);
  }

 protected:
  const std::uint16_t* row_scales_ = nullptr;
  std::int64_t chunk_ = 0;
  hn::Vec<hn::ScalableTag<float>> scale_;
  float chunk_scales_[kChunkGroups];
};

template <>
class RowDecoder<WeightFormat::kInt8> : public GroupChunks {
 public:
  HWY_INLINE void Start(const MatrixView& w, std::int64_t row) {
    values_ = reinterpret_cast<const std::int8_t*>(w.values) + row * w.cols;
    row_scales_ = w.scales + row * (w.cols / kGroupSize);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> Load(D d, std::int64_t col, std::int64_t offset) const {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<std::int8_t, D> d8;
    const auto quants = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, values_ + col + offset)));
    return hn::Mul(quants, scale_);
  }
  float Scalar(std::int64_t) const { return 0; }  // rows are whole groups: never left over

 private:
  const std::int8_t* values_ = nullptr;
};

template <>
class RowDecoder<WeightFormat::kInt4> : public GroupChunks {
 public:
  HWY_INLINE void Start(const MatrixView& w, std::int64_t row) {
    values_ = w.values + row * (w.cols / 2);
    row_scales_ = w.scales + row * (w.cols / kGroupSize);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> Load(D d, std::int64_t col, std::int64_t offset) const {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<std::uint8_t, D> d8;
    const auto bytes = hn::PromoteTo(di, hn::LoadU(d8, values_ + col / 2 + offset % 16));
#if HWY_TARGET == HWY_AVX3_DL
    // The 16 values that a nibble can mean, in one register; the look-up ignores the upper bits.
    const auto table = hn::Mul(scale_, hn::Sub(hn::Iota(d, 0.0f), hn::Set(d, 8.0f)));
    const auto index = offset < 16 ? bytes : hn::ShiftRight<4>(bytes);
    return hn::Vec<D>{_mm512_permutexvar_ps(index.raw, table.raw)};
#else
    const auto nibbles = offset < 16 ? hn::And(bytes, hn::Set(di, 15)) : hn::ShiftRight<4>(bytes);
    return hn::MulSub(hn::ConvertTo(d, nibbles), scale_, hn::Mul(scale_, hn::Set(d, 8.0f)));
#endif
  }
  float Scalar(std::int64_t) const { return 0; }

 private:
  const std::uint8_t* values_ = nullptr;
};

template <WeightFormat kFormat>
HWY_INLINE void DecodeRowOf(const MatrixView& w, std::int64_t row, float scale, float* out) {
  const hn::ScalableTag<float> d;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  constexpr std::int64_t kStep = RowDecoder<kFormat>::Step(kLanes);
  RowDecoder<kFormat> decoder;
  decoder.Start(w, row);
  const auto factor = hn::Set(d, scale);
  std::int64_t col = 0;
  while (col + kLanes <= w.cols) {
    const std::int64_t end = RowDecoder<kFormat>::ChunkEnd(col, w.cols, kLanes);
    decoder.StartChunk(col, end);
    for (; col < end; col += kStep) {
      decoder.StartStep(col);
      for (std::int64_t v = 0; v < kStep; v += kLanes) {
        hn::StoreU(hn::Mul(decoder.Load(d, col, v), factor), d, out + col + v);
      }
    }
  }
  for (; col < w.cols; ++col) out[col] = decoder.Scalar(col) * scale;
}

HWY_INLINE void DecodeRow(const MatrixView& w, std::int64_t row, float scale, float* out) {
  switch (w.format) {
    case WeightFormat::kF32:
      return DecodeRowOf<WeightFormat::kF32>(w, row, scale, out);
    case WeightFormat::kBf16:
      return DecodeRowOf<WeightFormat::kBf16>(w, row, scale, out);
    case WeightFormat::kInt8:
      return DecodeRowOf<WeightFormat::kInt8>(w, row, scale, out);
    case WeightFormat::kInt4:
      return DecodeRowOf<WeightFormat::kInt4>(w, row, scale, out);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();

#endif  // TANDEM_WEIGHT_DECODE_INL_H_
