// AVX-512 with VNNI: 16 groups a chunk, one lane each. Included by int8_row-inl.h alone, once for
// each instruction set it is for: no guard.

#include <immintrin.h>

HWY_BEFORE_NAMESPACE();
// Highway detects AVX512-VNNI for this target but does not ask the compiler for it.
#if HWY_COMPILER_CLANG
#pragma clang attribute push(__attribute__((target("avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512vnni")
#endif
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

// 128-bit lane L of the result holds the sums of lane L of a, b, c and d.
HWY_INLINE __m512i SumLanes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// `bytes` weights from `p`; the rest zero, and not read.
HWY_INLINE __m512i LoadBytes(const std::uint8_t* p, std::int64_t bytes) {
  if (bytes >= 64) return _mm512_loadu_si512(p);
  if (bytes <= 0) return _mm512_setzero_si512();
  return _mm512_maskz_loadu_epi8((std::uint64_t{1} << bytes) - 1, p);
}

// The weights of a chunk as unsigned bytes: value + kOffset.
template <bool kInt4>
struct ChunkWeights;

template <>
struct ChunkWeights<true> {
  // The offset is 8.
  static constexpr int kShift = 3;
  __m512i low[4];
  __m512i high[4];

  HWY_INLINE void Load(const std::uint8_t* p, std::int64_t groups) {
    const __m512i mask = _mm512_set1_epi8(15);
    for (int v = 0; v < 4; ++v) {
      const __m512i bytes = LoadBytes(p + v * 64, (groups - v * 4) * 16);
      low[v] = _mm512_and_si512(bytes, mask);
      high[v] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
    }
  }

  HWY_INLINE __m512i Sums(const std::int8_t* split) const {
    __m512i s[4];
    for (int v = 0; v < 4; ++v) {
      s[v] =
          _mm512_dpbusd_epi32(_mm512_setzero_si512(), low[v], _mm512_loadu_si512(split + v * 128));
      s[v] = _mm512_dpbusd_epi32(s[v], high[v], _mm512_loadu_si512(split + v * 128 + 64));
    }
    // Lane L, element v is group 4 v + L.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, SumLanes(s[0], s[1], s[2], s[3]));
  }
};

template <>
struct ChunkWeights<false> {
  // The offset is 128.
  static constexpr int kShift = 7;
  __m512i bytes[8];

  HWY_INLINE void Load(const std::uint8_t* p, std::int64_t groups) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
    for (int v = 0; v < 8; ++v) {
      bytes[v] = _mm512_xor_si512(LoadBytes(p + v * 64, (groups - v * 2) * 32), flip);
    }
  }

  HWY_INLINE __m512i Sums(const std::int8_t* plain) const {
    __m512i s[8];
    for (int v = 0; v < 8; ++v) {
      s[v] =
          _mm512_dpbusd_epi32(_mm512_setzero_si512(), bytes[v], _mm512_loadu_si512(plain + v * 64));
    }
    const __m512i a = SumLanes(s[0], s[1], s[2], s[3]);
    const __m512i b = SumLanes(s[4], s[5], s[6], s[7]);
    // Vector v holds group 2 v in lanes 0 and 1, group 2 v + 1 in lanes 2 and 3.
    const __m512i sums =
        _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
    const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    return _mm512_permutexvar_epi32(order, sums);
  }
};

// Lane i takes i + 8, then i + 4, i + 2, i + 1.
HWY_INLINE float SumTree(__m512 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Adds chunk `g / 16` of one row to the sums of each token; `left`: groups that the row still has.
template <bool kInt4, int kTokens>
HWY_INLINE void AddChunk(const std::uint8_t* w, __m512 w_scales, std::int64_t g, std::int64_t left,
                         const RowInputs& x, __m512* sums) {
  ChunkWeights<kInt4> weights;
  weights.Load(w + g * (kInt4 ? 16 : 32), left);
  for (int t = 0; t < kTokens; ++t) {
    const __m512i offset = _mm512_slli_epi32(_mm512_loadu_si512(x.sums + t * x.scale_stride + g),
                                             ChunkWeights<kInt4>::kShift);
    const __m512i raw = weights.Sums(x.quants + t * x.quant_stride + g * kGroupSize);
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(raw, offset));
    const __m512 scale =
        _mm512_mul_ps(w_scales, _mm512_loadu_ps(x.scales + t * x.scale_stride + g));
    sums[t] = _mm512_add_ps(sums[t], _mm512_mul_ps(scale, exact));
  }
}

// Rows lie one behind another: what comes so many bytes later is fetched now. Measured: int4 gains
// an eighth with one token and a quarter with two; int8 rows come in time by themselves.
constexpr std::int64_t kAhead = 2048;
HWY_INLINE void PrefetchInt4(const std::uint8_t* w, const std::uint16_t* w_scales,
                             std::int64_t groups) {
  for (std::int64_t line = 0; line < groups * 16; line += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(w + kAhead + line), _MM_HINT_T0);
  }
  _mm_prefetch(reinterpret_cast<const char*>(w_scales + kAhead / 8), _MM_HINT_T0);
}

// Not inlined: its callers are compiled without VNNI.
template <bool kInt4, int kTokens>
HWY_NOINLINE void RowTimesTokens(const std::uint8_t* w, const std::uint16_t* w_scales,
                                 std::int64_t groups, const RowInputs& x, float* out,
                                 std::int64_t out_stride) {
  __m512 sums[kTokens];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  std::int64_t g = 0;
  for (; g + kChunkGroups <= groups; g += kChunkGroups) {
    if constexpr (kInt4) PrefetchInt4(w + g * 16, w_scales + g, kChunkGroups);
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w_scales + g));
    AddChunk<kInt4, kTokens>(w, _mm512_cvtph_ps(halves), g, kChunkGroups, x, sums);
  }
  if (g < groups) {
    if constexpr (kInt4) PrefetchInt4(w + g * 16, w_scales + g, groups - g);
    const auto mask = static_cast<__mmask16>((1u << (groups - g)) - 1);
    const __m256i halves = _mm256_maskz_loadu_epi16(mask, w_scales + g);
    AddChunk<kInt4, kTokens>(w, _mm512_cvtph_ps(halves), g, groups - g, x, sums);
  }
  for (int t = 0; t < kTokens; ++t) out[t * out_stride] = SumTree(sums[t]);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
#if HWY_COMPILER_CLANG
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
HWY_AFTER_NAMESPACE();
