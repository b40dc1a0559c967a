// AVX2: pairs of bytes are multiplied and added in 16 bits, which cannot overflow here. Included by
// int8_row-inl.h alone, once for each instruction set it is for: no guard.

#include <immintrin.h>

HWY_BEFORE_NAMESPACE();
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE __m256i Load256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

HWY_INLINE __m256i Hadd4(const __m256i* p) {
  return _mm256_hadd_epi32(_mm256_hadd_epi32(p[0], p[1]), _mm256_hadd_epi32(p[2], p[3]));
}

// Sums of 8 groups of q_w * q_x, in order.
template <bool kInt4>
HWY_INLINE __m256i Sums8(const std::uint8_t* w, const std::int8_t* x, const std::int32_t* x_sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kInt4) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i p[4];
    for (int v = 0; v < 4; ++v) {  // groups 2 v and 2 v + 1
      const __m256i bytes = Load256(w + v * 32);
      const std::int8_t* in = x + v / 2 * 128 + v % 2 * 32;
      const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(bytes, mask), Load256(in));
      const __m256i high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask),
                                                Load256(in + 64));
      p[v] = _mm256_madd_epi16(_mm256_add_epi16(low, high), ones);
    }
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_sub_epi32(_mm256_permutevar8x32_epi32(Hadd4(p), order),
                            _mm256_slli_epi32(Load256(x_sums), 3));
  } else {
    __m256i p[8];
    for (int v = 0; v < 8; ++v) {
      const __m256i a = Load256(w + v * 32);
      const __m256i b = Load256(x + v * 32);
      p[v] =
          _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a)), ones);
    }
    const __m256i a = Hadd4(p);
    const __m256i b = Hadd4(p + 4);
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
  }
}

// Eight groups that end inside: copied out, so that nothing behind the row is read.
template <bool kInt4>
struct PaddedGroups {
  alignas(32) std::uint8_t values[8 * (kInt4 ? 16 : 32)] = {};
  alignas(16) std::uint16_t scales[8] = {};
  HWY_INLINE PaddedGroups(const std::uint8_t* w, const std::uint16_t* w_scales,
                          std::int64_t groups) {
    std::memcpy(values, w, static_cast<std::size_t>(groups) * (kInt4 ? 16 : 32));
    std::memcpy(scales, w_scales, static_cast<std::size_t>(groups) * sizeof(std::uint16_t));
  }
};

// Adds groups [g, g + 8) of one row to the sums of each token.
template <bool kInt4, int kTokens>
HWY_INLINE void AddEight(const std::uint8_t* w, const std::uint16_t* w_scales, std::int64_t g,
                         const RowInputs& x, __m256 (*sums)[2]) {
  const __m256 w_scale =
      _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w_scales)));
  for (int t = 0; t < kTokens; ++t) {
    const __m256i raw = Sums8<kInt4>(w, x.quants + t * x.quant_stride + g * kGroupSize,
                                     x.sums + t * x.scale_stride + g);
    const __m256 scale = _mm256_mul_ps(w_scale, _mm256_loadu_ps(x.scales + t * x.scale_stride + g));
    __m256& sum = sums[t][g / 8 % 2];
    sum = _mm256_add_ps(sum, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(raw)));
  }
}

template <bool kInt4, int kTokens>
void RowTimesTokens(const std::uint8_t* w, const std::uint16_t* w_scales, std::int64_t groups,
                    const RowInputs& x, float* out, std::int64_t out_stride) {
  constexpr std::int64_t kGroupBytes = kInt4 ? 16 : 32;
  __m256 sums[kTokens][2];
  for (auto& of_token : sums) of_token[0] = of_token[1] = _mm256_setzero_ps();
  std::int64_t g = 0;
  for (; g + 8 <= groups; g += 8)
    AddEight<kInt4, kTokens>(w + g * kGroupBytes, w_scales + g, g, x, sums);
  if (g < groups) {
    const PaddedGroups<kInt4> padded(w + g * kGroupBytes, w_scales + g, groups - g);
    AddEight<kInt4, kTokens>(padded.values, padded.scales, g, x, sums);
  }
  for (int t = 0; t < kTokens; ++t) {
    const __m256 all = _mm256_add_ps(sums[t][0], sums[t][1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    out[t * out_stride] = _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();
