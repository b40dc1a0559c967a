// Any instruction set: plain C++. Included by int8_row-inl.h alone, once for each instruction set
// it is for: no guard.

HWY_BEFORE_NAMESPACE();
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

// Sum of q_w * q_x of one group. `x`: plain columns for int8; for int4 the group's first half, its
// second half 64 bytes further.
template <bool kInt4>
HWY_INLINE std::int32_t GroupSum(const std::uint8_t* w, const std::int8_t* x) {
  std::int32_t sum = 0;
  if constexpr (kInt4) {
    for (int i = 0; i < 16; ++i) sum += (w[i] % 16 - 8) * x[i] + (w[i] / 16 - 8) * x[i + 64];
  } else {
    for (int i = 0; i < 32; ++i) sum += static_cast<std::int8_t>(w[i]) * x[i];
  }
  return sum;
}

template <bool kInt4, int kTokens>
void RowTimesTokens(const std::uint8_t* w, const std::uint16_t* w_scales, std::int64_t groups,
                    const RowInputs& x, float* out, std::int64_t out_stride) {
  for (int t = 0; t < kTokens; ++t) {
    float lanes[kChunkGroups] = {};
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int8_t* quants = x.quants + t * x.quant_stride;
      const std::int32_t sum = kInt4 ? GroupSum<true>(w + g * 16, quants + g / 4 * 128 + g % 4 * 16)
                                     : GroupSum<false>(w + g * 32, quants + g * kGroupSize);
      const float scale = HalfToFloat(w_scales[g]) * x.scales[t * x.scale_stride + g];
      lanes[g % kChunkGroups] += scale * static_cast<float>(sum);
    }
    for (int step = 8; step >= 1; step /= 2) {
      for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
    }
    out[t * out_stride] = lanes[0];
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();
