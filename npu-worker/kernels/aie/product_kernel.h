#pragma once

#include <aie_api/aie.hpp>

#include "npu-worker/kernels/tile_shape.h"

// The matrix product of one core, for the AIE compiler and (over host_aie_api) for the host.

namespace tandem::npu {

// Sums are added to this integer, which turns their bits into those of a float: 1.5 * 2^23 + sum. A
// group's sum is at most 32 * 127 * 128 < 2^20, so that nothing is rounded; subtracting 1.5 * 2^23
// gives the sum as float32, exactly. The cores have no conversion from int32 in one instruction.
inline constexpr int32 kFloatBits = 0x4B400000;
inline constexpr float kFloatBias = 12582912.0f;

// 32 quants of weights: an instruction's rows times 8 columns, in parts of 4 rows.
template <bool kInt4>
inline aie::vector<int8, 32> LoadWeightQuants(const int8* quants) {
  if constexpr (kInt4) {
    return aie::unpack(aie::load_v<16>(quants).template cast_to<int4>());
  } else {
    return aie::load_v<32>(quants);
  }
}

template <unsigned kRows, bool kInt4>
inline aie::vector<int8, kRows * kOctet> LoadWeights(const int8* block, unsigned octet) {
  // Bytes of 4 rows of an octet.
  constexpr unsigned kPart = kInt4 ? 16 : 32;
  const int8* quants = block + octet * (kRows / 4 * kPart);
  if constexpr (kRows == 4) {
    return LoadWeightQuants<kInt4>(quants);
  } else {
    return aie::concat(LoadWeightQuants<kInt4>(quants), LoadWeightQuants<kInt4>(quants + kPart));
  }
}

// w_scale * x_scale for 4 rows times 8 tokens.
inline aie::vector<float, 32> ScaleProducts(const float* w_scales, const float* x_scales) {
  const aie::vector<float, 32> rows =
      aie::concat(aie::broadcast<float, 8>(w_scales[0]), aie::broadcast<float, 8>(w_scales[1]),
                  aie::broadcast<float, 8>(w_scales[2]), aie::broadcast<float, 8>(w_scales[3]));
  const aie::vector<float, 8> tokens = aie::load_v<8>(x_scales);
  return aie::mul(rows, tokens.template grow_replicate<32>()).template to_vector<float>();
}

// One group of 32 columns of an instruction's rows and tokens: the exact integer sums.
template <unsigned kRows, bool kInt4>
inline auto GroupSums(const int8* w_block, const int8* x_block, unsigned group) {
  aie::mmul<kRows, kOctet, kOctet, int8, int8, acc32> sums;
  constexpr unsigned kOctets = kGroup / kOctet;
  const unsigned first = group * kOctets;
  sums.mul(LoadWeights<kRows, kInt4>(w_block, first), aie::load_v<64>(x_block + first * 64));
  for (unsigned octet = first + 1; octet < first + kOctets; ++octet) {
    sums.mac(LoadWeights<kRows, kInt4>(w_block, octet), aie::load_v<64>(x_block + octet * 64));
  }
  return sums.to_accum();
}

// Adds a chunk's product to `sums` (tile_shape.h): for each group in order, w_scale * x_scale *
// (sum over the group of w * x), the integer sum exact, each float operation rounded once.
template <unsigned kRows, bool kInt4>
inline void ProductChunk(const int8* weights, const int8* activations, float* sums) {
  const float* w_scales = reinterpret_cast<const float*>(weights + WeightQuantBytes(kInt4));
  const float* x_scales = reinterpret_cast<const float*>(activations + kActivationQuantBytes);
  constexpr unsigned kWeightBlock = kRows * kTileColumns / (kInt4 ? 2 : 1);
  for (unsigned r = 0; r < kTileRows / kRows; ++r) {
    for (unsigned t = 0; t < kTileTokens / kOctet; ++t) {
      const int8* w_block = weights + r * kWeightBlock;
      const int8* x_block = activations + t * kOctet * kTileColumns;
      float* out = sums + (r * (kTileTokens / kOctet) + t) * kRows * kOctet;
      aie::accum<accfloat, 32> parts[kRows / 4];
      for (unsigned part = 0; part < kRows / 4; ++part) {
        parts[part].from_vector(aie::load_v<32>(out + part * 32));
      }
      for (unsigned g = 0; g < kTileGroups; ++g) {
        const auto integers = GroupSums<kRows, kInt4>(w_block, x_block, g);
        for (unsigned part = 0; part < kRows / 4; ++part) {
          const aie::vector<int32, 32> bits =
              aie::add(integers.template extract<32>(part).template to_vector<int32>(), kFloatBits);
          const aie::vector<float, 32> exact = aie::sub(bits.template cast_to<float>(), kFloatBias);
          const aie::vector<float, 32> scales =
              ScaleProducts(w_scales + g * kTileRows + r * kRows + part * 4,
                            x_scales + g * kTileTokens + t * kOctet);
          parts[part] = aie::mac(parts[part], exact, scales);
        }
      }
      for (unsigned part = 0; part < kRows / 4; ++part) {
        aie::store_v(out + part * 32, parts[part].template to_vector<float>());
      }
    }
  }
}

inline void ZeroSums(float* sums) {
  const aie::vector<float, 32> zeros = aie::zeros<float, 32>();
  for (unsigned i = 0; i < kTileRows * kTileTokens; i += 32) aie::store_v(sums + i, zeros);
}

}  // namespace tandem::npu
