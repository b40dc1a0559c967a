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

// Of 16 rows with four 32-bit columns each, read by load(row), column k of all rows: lane r of
// out[k] is row r's.
template <typename Load>
HWY_INLINE void TransposeRows(const Load& load, __m512i* out) {
  __m512i rows[4];
  for (int e = 0; e < 4; ++e) {
    // 128-bit lane L holds row 4 L + e.
    __m512i four = _mm512_castsi128_si512(load(e));
    four = _mm512_inserti32x4(four, load(4 + e), 1);
    four = _mm512_inserti32x4(four, load(8 + e), 2);
    rows[e] = _mm512_inserti32x4(four, load(12 + e), 3);
  }
  const __m512i low01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
  out[0] = _mm512_unpacklo_epi64(low01, low23);
  out[1] = _mm512_unpackhi_epi64(low01, low23);
  out[2] = _mm512_unpacklo_epi64(high01, high23);
  out[3] = _mm512_unpackhi_epi64(high01, high23);
}

// The weights of one group: `values` is row 0's, `stride` bytes lead to the next row's.
template <bool kInt4>
HWY_INLINE void PackGroup(const std::uint8_t* values, std::int64_t stride, std::uint8_t* out) {
  const auto half = [&](std::int64_t offset) {
    return [=](std::int64_t row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + row * stride + offset));
    };
  };
  __m512i columns[8];
  TransposeRows(half(0), columns);
  if constexpr (kInt4) {
    const __m512i mask = _mm512_set1_epi8(15);
    for (int k = 0; k < 4; ++k) {
      columns[4 + k] = _mm512_and_si512(_mm512_srli_epi16(columns[k], 4), mask);
      columns[k] = _mm512_and_si512(columns[k], mask);
    }
  } else {
    TransposeRows(half(16), columns + 4);
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
    for (__m512i& column : columns) column = _mm512_xor_si512(column, flip);
  }
  for (int k = 0; k < 8; ++k) _mm512_storeu_si512(out + k * 64, columns[k]);
}

template <bool kInt4>
HWY_NOINLINE void PackTile(const MatrixView& w, std::int64_t row, const Int8Tile& tile) {
  constexpr std::int64_t kBytes = kInt4 ? 16 : 32;
  const std::int64_t stride = tile.groups * kBytes;
  const std::uint8_t* values = w.values + row * stride;
  // The rows that follow in memory are the next tile: they come while this one is used.
  const std::uint8_t* next = values + Int8Tile::kRows * stride;
  for (std::int64_t g = 0; g < tile.groups; ++g) {
    for (std::int64_t line = 0; line < Int8Tile::kRows * kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next + g * Int8Tile::kRows * kBytes + line),
                   _MM_HINT_T1);
    }
    PackGroup<kInt4>(values + g * kBytes, stride, tile.weights + g * Int8Tile::kGroupBytes);
  }
  const std::uint16_t* scales = w.scales + row * tile.groups;
  for (std::int64_t g = 0; g < tile.groups; g += 4) {
    const std::int64_t left = std::min<std::int64_t>(tile.groups - g, 4);
    const auto mask = static_cast<__mmask8>((1u << left) - 1);
    const auto four = [&](std::int64_t r) {
      return _mm_castps_si128(
          _mm_cvtph_ps(_mm_maskz_loadu_epi16(mask, scales + r * tile.groups + g)));
    };
    __m512i of_group[4];
    TransposeRows(four, of_group);
    for (std::int64_t i = 0; i < left; ++i) {
      _mm512_storeu_si512(tile.scales + (g + i) * Int8Tile::kRows, of_group[i]);
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
