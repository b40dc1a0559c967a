// AVX-512 with VNNI, for many tokens: 16 rows are packed so that each has a lane, and no sum is
// ever added across lanes. Included by int8_row-inl.h alone, behind int8_row_vnni-inl.h.

HWY_BEFORE_NAMESPACE();
#if HWY_COMPILER_CLANG
#pragma clang attribute push(__attribute__((target("avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512vnni")
#endif
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

// A tile of 16 rows: for each group 8 vectors of weights (lane r: 4 columns of row r, as unsigned
// bytes), then for each group one vector of scales.
struct Int8Tile {
  static constexpr std::int64_t kRows = 16;
  static constexpr std::int64_t kGroupBytes = kRows * kGroupSize;
  std::uint8_t* weights;
  float* scales;
  std::int64_t groups;
};

// 32 weights of a group in order, as unsigned bytes.
template <bool kInt4>
HWY_INLINE __m256i UnsignedGroup(const std::uint8_t* w) {
  if constexpr (kInt4) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
    const __m128i mask = _mm_set1_epi8(15);
    return _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask),
                            _mm_and_si128(bytes, mask));
  } else {
    return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)),
                            _mm256_set1_epi8(static_cast<char>(0x80)));
  }
}

template <bool kInt4>
HWY_NOINLINE void PackTile(const MatrixView& w, std::int64_t row, const Int8Tile& tile) {
  constexpr std::int64_t kBytes = kInt4 ? 16 : 32;
  for (std::int64_t r = 0; r < Int8Tile::kRows; ++r) {
    const std::uint8_t* values = w.values + (row + r) * tile.groups * kBytes;
    const std::uint16_t* scales = w.scales + (row + r) * tile.groups;
    for (std::int64_t g = 0; g < tile.groups; ++g) {
      alignas(32) std::uint32_t columns[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(columns),
                         UnsignedGroup<kInt4>(values + g * kBytes));
      std::uint8_t* out = tile.weights + g * Int8Tile::kGroupBytes + r * 4;
      for (int k = 0; k < 8; ++k) std::memcpy(out + k * 64, &columns[k], 4);
      tile.scales[g * Int8Tile::kRows + r] =
          _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(scales[g])));
    }
  }
}

// The lanes of kernels.h are taken one after another: lane j of 16 rows is the sum over groups j, j
// + 16, ...
template <bool kInt4, int kTokens>
HWY_NOINLINE void TileTimesTokens(const Int8Tile& tile, const RowInputs& x, float* out,
                                  std::int64_t out_stride) {
  constexpr int kShift = ChunkWeights<kInt4>::kShift;
  __m512 lanes[kChunkGroups][kTokens];
  for (std::int64_t j = 0; j < kChunkGroups; ++j) {
    __m512 sums[kTokens];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    for (std::int64_t g = j; g < tile.groups; g += kChunkGroups) {
      const std::uint8_t* weights = tile.weights + g * Int8Tile::kGroupBytes;
      const std::int8_t* quants = x.quants + g * kGroupSize;
      __m512i exact[kTokens];
      for (int t = 0; t < kTokens; ++t) {
        exact[t] = _mm512_set1_epi32(-x.sums[t * x.scale_stride + g] * (1 << kShift));
      }
      for (int k = 0; k < 8; ++k) {
        const __m512i w = _mm512_loadu_si512(weights + k * 64);
        for (int t = 0; t < kTokens; ++t) {
          std::int32_t columns = 0;
          std::memcpy(&columns, quants + t * x.quant_stride + k * 4, 4);
          exact[t] = _mm512_dpbusd_epi32(exact[t], w, _mm512_set1_epi32(columns));
        }
      }
      const __m512 w_scales = _mm512_loadu_ps(tile.scales + g * Int8Tile::kRows);
      for (int t = 0; t < kTokens; ++t) {
        const __m512 scale =
            _mm512_mul_ps(w_scales, _mm512_set1_ps(x.scales[t * x.scale_stride + g]));
        sums[t] = _mm512_add_ps(sums[t], _mm512_mul_ps(scale, _mm512_cvtepi32_ps(exact[t])));
      }
    }
    for (int t = 0; t < kTokens; ++t) lanes[j][t] = sums[t];
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int step = 8; step >= 1; step /= 2) {
      for (int i = 0; i < step; ++i) lanes[i][t] = _mm512_add_ps(lanes[i][t], lanes[i + step][t]);
    }
    _mm512_storeu_ps(out + t * out_stride, lanes[0][t]);
  }
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
