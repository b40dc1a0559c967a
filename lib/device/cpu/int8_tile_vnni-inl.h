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

// The order in which a tile has its lanes (kernels.h): neighbours are the next to be added.
constexpr std::int64_t kLaneOrder[kChunkGroups] = {0, 8, 4, 12, 2, 10, 6, 14,
                                                   1, 9, 5, 13, 3, 11, 7, 15};

// A tile of 16 rows, lane r is row r: for each group 8 vectors of weights (4 columns each, signed
// bytes), then for each group one vector of scales, then one of corrections. Groups stand in the
// order of their lanes, so that everything is read from front to back.
struct Int8Tile {
  static constexpr std::int64_t kRows = 16;
  static constexpr std::int64_t kGroupBytes = kRows * kGroupSize;
  std::int8_t* weights;
  float* scales;
  // Activations are read as value + 128: what that adds to the sum of a group, negated.
  std::int32_t* corrections;
  std::int64_t groups;

  // At the start of `memory`, which holds Bytes(groups), aligned to 64.
  static Int8Tile At(std::byte* memory, std::int64_t groups) {
    auto* const scales = reinterpret_cast<float*>(memory + groups * kGroupBytes);
    return {reinterpret_cast<std::int8_t*>(memory), scales,
            reinterpret_cast<std::int32_t*>(scales + groups * kRows), groups};
  }
  static constexpr std::int64_t Bytes(std::int64_t groups) {
    return groups * (kGroupBytes + kRows * 8);
  }
};
static_assert(2 * Int8Tile::Bytes(1) == Int8ScratchBytes(kGroupSize));

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

// The weights of one group: `values` is row 0's, `stride` bytes lead to the next row's. Returns the
// correction of each row.
template <bool kInt4>
HWY_INLINE __m512i PackGroup(const std::uint8_t* values, std::int64_t stride, std::int8_t* out) {
  const auto half = [&](std::int64_t offset) {
    return [=](std::int64_t row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + row * stride + offset));
    };
  };
  // 128 as an unsigned byte.
  const __m512i bias = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sums = _mm512_setzero_si512();
  __m512i columns[8];
  TransposeRows(half(0), columns);
  if constexpr (kInt4) {
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i eight = _mm512_set1_epi8(8);
    __m512i bytes = _mm512_setzero_si512();
    for (int k = 0; k < 4; ++k) {
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(columns[k], 4), mask);
      columns[4 + k] = _mm512_sub_epi8(high, eight);
      columns[k] = _mm512_sub_epi8(_mm512_and_si512(columns[k], mask), eight);
      // Eight values of -8 to 7 fit a byte.
      bytes = _mm512_add_epi8(bytes, _mm512_add_epi8(columns[k], columns[4 + k]));
    }
    sums = _mm512_dpbusd_epi32(sums, bias, bytes);
  } else {
    TransposeRows(half(16), columns + 4);
    for (const __m512i& column : columns) sums = _mm512_dpbusd_epi32(sums, bias, column);
  }
  for (int k = 0; k < 8; ++k) _mm512_store_si512(out + k * 64, columns[k]);
  return _mm512_sub_epi32(_mm512_setzero_si512(), sums);
}

// fp16 scales of up to 4 groups of 16 rows; lane r of out[i] is row r's of group i.
HWY_INLINE void PackScales(const std::uint16_t* scales, std::int64_t stride, std::int64_t groups,
                           __m512i* out) {
  const auto mask = static_cast<__mmask8>((1u << groups) - 1);
  TransposeRows(
      [=](std::int64_t row) {
        return _mm_castps_si128(_mm_cvtph_ps(_mm_maskz_loadu_epi16(mask, scales + row * stride)));
      },
      out);
}

template <bool kInt4>
HWY_NOINLINE void PackTile(const MatrixView& w, std::int64_t row, const Int8Tile& tile) {
  constexpr std::int64_t kBytes = kInt4 ? 16 : 32;
  const std::int64_t stride = tile.groups * kBytes;
  const std::uint8_t* values = w.values + row * stride;
  const std::uint16_t* scales = w.scales + row * tile.groups;
  // The rows that follow in memory are the next tile: they come while this one is used.
  const std::uint8_t* next = values + Int8Tile::kRows * stride;
  // Where the next group of each lane goes.
  std::int64_t places[kChunkGroups];
  std::int64_t place = 0;
  for (const std::int64_t lane : kLaneOrder) {
    places[lane] = place;
    place += (tile.groups - lane + kChunkGroups - 1) / kChunkGroups;
  }
  __m512i four[4];
  for (std::int64_t g = 0; g < tile.groups; ++g) {
    for (std::int64_t line = 0; line < Int8Tile::kRows * kBytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next + g * Int8Tile::kRows * kBytes + line),
                   _MM_HINT_T1);
    }
    if (g % 4 == 0) {
      PackScales(scales + g, tile.groups, std::min<std::int64_t>(tile.groups - g, 4), four);
    }
    const std::int64_t at = places[g % kChunkGroups]++;
    const __m512i correction =
        PackGroup<kInt4>(values + g * kBytes, stride, tile.weights + at * Int8Tile::kGroupBytes);
    _mm512_store_si512(tile.corrections + at * Int8Tile::kRows, correction);
    _mm512_store_si512(tile.scales + at * Int8Tile::kRows, four[g % 4]);
  }
}

// Lane `lane` of kernels.h of 16 rows times each token, for each tile: the sum over groups lane,
// lane + 16, ..., which begin at `*place` in the tiles.
template <int kTiles, int kTokens>
HWY_INLINE void SumLane(const Int8Tile* tiles, const RowInputs& x, std::int64_t lane,
                        std::int64_t* place, __m512* sums) {
  for (int i = 0; i < kTiles * kTokens; ++i) sums[i] = _mm512_setzero_ps();
  for (std::int64_t g = lane; g < tiles[0].groups; g += kChunkGroups, ++*place) {
    __m512i exact[kTiles * kTokens];
    for (int i = 0; i < kTiles; ++i) {
      const __m512i start = _mm512_load_si512(tiles[i].corrections + *place * Int8Tile::kRows);
      for (int t = 0; t < kTokens; ++t) exact[i * kTokens + t] = start;
    }
    const std::int8_t* quants = x.quants + g * kGroupSize;
    for (int k = 0; k < 8; ++k) {
      __m512i w[kTiles];
      for (int i = 0; i < kTiles; ++i) {
        w[i] = _mm512_load_si512(tiles[i].weights + *place * Int8Tile::kGroupBytes + k * 64);
      }
      for (int t = 0; t < kTokens; ++t) {
        std::int32_t columns = 0;
        std::memcpy(&columns, quants + t * x.quant_stride + k * 4, 4);
        const __m512i four = _mm512_set1_epi32(columns);
        for (int i = 0; i < kTiles; ++i) {
          __m512i& sum = exact[i * kTokens + t];
          sum = _mm512_dpbusd_epi32(sum, four, w[i]);
        }
      }
    }
    for (int i = 0; i < kTiles; ++i) {
      const __m512 w_scales = _mm512_load_ps(tiles[i].scales + *place * Int8Tile::kRows);
      for (int t = 0; t < kTokens; ++t) {
        const __m512 scale =
            _mm512_mul_ps(w_scales, _mm512_set1_ps(x.scales[t * x.scale_stride + g]));
        __m512& sum = sums[i * kTokens + t];
        sum = _mm512_add_ps(sum, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(exact[i * kTokens + t])));
      }
    }
  }
}

// `out`: of the first tile's first row; the next tile's rows follow. As lanes come in the order of
// the tree, what is still to be added is one sum a level.
template <int kTiles, int kTokens>
HWY_NOINLINE void TilesTimesTokens(const Int8Tile* tiles, const RowInputs& x, float* out,
                                   std::int64_t out_stride) {
  constexpr int kSums = kTiles * kTokens;
  __m512 levels[4][kSums];
  std::int64_t place = 0;
  for (unsigned n = 0;; ++n) {
    __m512 sums[kSums];
    SumLane<kTiles, kTokens>(tiles, x, kLaneOrder[n], &place, sums);
    int level = 0;
    for (; (n >> level & 1u) != 0; ++level) {
      for (int i = 0; i < kSums; ++i) sums[i] = _mm512_add_ps(levels[level][i], sums[i]);
    }
    if (level == 4) {
      for (int i = 0; i < kTiles; ++i) {
        for (int t = 0; t < kTokens; ++t) {
          _mm512_storeu_ps(out + t * out_stride + i * Int8Tile::kRows, sums[i * kTokens + t]);
        }
      }
      return;
    }
    for (int i = 0; i < kSums; ++i) levels[level][i] = sums[i];
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
