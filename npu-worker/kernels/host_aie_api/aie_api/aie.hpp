#pragma once

// A stand-in for the parts of AMD's aie_api that the kernels use, so that the same source runs on
// the host. Names and signatures are aie_api's; what each does is written here anew as plain loops.
// It refuses what a core refuses: a load or store that is not aligned to its size (at most 32
// bytes on AIE2, 64 on AIE2P), vectors over 1024 bits. Floats are IEEE: every operation rounds once
// to nearest. (The cores compose float32 products of bfloat16 ones, so that their last bits may
// differ.) Rounding to bfloat16 cuts off, as on a core that was not told otherwise.

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

using int8 = std::int8_t;
using int16 = std::int16_t;
using int32 = std::int32_t;
// Two in a byte; never on its own.
struct int4 {};
struct acc32 {};
struct accfloat {};
// The upper half of a float32. Constants round to nearest.
struct bfloat16 {
  std::uint16_t bits = 0;
  bfloat16() = default;
  constexpr explicit bfloat16(float value) {
    const auto wide = std::bit_cast<std::uint32_t>(value);
    bits = static_cast<std::uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
  }
  constexpr operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

// A name of its own for each generation: a program may have the kernels of both.
#if !defined(__AIE_ARCH__)
#define AIE_STANDIN_GENERATION every
#elif __AIE_ARCH__ == 20
#define AIE_STANDIN_GENERATION aie2
#else
#define AIE_STANDIN_GENERATION aie2p
#endif

namespace aie {
inline namespace AIE_STANDIN_GENERATION {

// Of numbers that leave an accumulator. A core begins with floor.
enum class rounding_mode { floor, conv_even };

namespace standin {

inline thread_local rounding_mode rounding = rounding_mode::floor;

inline bfloat16 RoundToBfloat16(float value) {
  if (rounding == rounding_mode::conv_even) return bfloat16(value);
  bfloat16 out;
  out.bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  return out;
}

template <typename T>
inline constexpr unsigned kBits = sizeof(T) * 8;
template <>
inline constexpr unsigned kBits<int4> = 4;

[[noreturn]] inline void Refuse(const char* what) {
  std::fprintf(stderr, "aie stand-in: %s\n", what);
  std::abort();
}

// Kernels that are the same for both generations are held to the stricter one.
#if defined(__AIE_ARCH__) && __AIE_ARCH__ == 20
inline constexpr unsigned kMostAlignment = 32;
#else
inline constexpr unsigned kMostAlignment = 64;
#endif

inline void CheckAligned(const void* p, unsigned bytes) {
  const unsigned wanted = bytes < kMostAlignment ? bytes : kMostAlignment;
  if (reinterpret_cast<std::uintptr_t>(p) % wanted != 0)
    Refuse("a load or store that is not aligned");
}

}  // namespace standin

inline void set_rounding(rounding_mode mode) { standin::rounding = mode; }

template <typename T, unsigned kElements>
class vector {
 public:
  static constexpr unsigned kBytes = kElements * standin::kBits<T> / 8;
  static_assert(kBytes >= 16 && kBytes <= 128, "a core's vectors have 128 to 1024 bits");
  static constexpr unsigned size() { return kElements; }

  template <typename U>
  vector<U, kBytes * 8 / standin::kBits<U>> cast_to() const {
    vector<U, kBytes * 8 / standin::kBits<U>> out;
    std::memcpy(out.bytes(), bytes(), kBytes);
    return out;
  }
  template <unsigned kTo>
  vector<T, kTo> grow_replicate() const {
    vector<T, kTo> out;
    for (unsigned i = 0; i < kTo; ++i) out.set(get(i % kElements), i);
    return out;
  }
  template <unsigned kPart>
  vector<T, kPart> extract(unsigned part) const {
    vector<T, kPart> out;
    for (unsigned i = 0; i < kPart; ++i) out.set(get(part * kPart + i), i);
    return out;
  }
  T get(unsigned i) const {
    T value;
    std::memcpy(&value, bytes_.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  void set(T value, unsigned i) { std::memcpy(bytes_.data() + i * sizeof(T), &value, sizeof(T)); }

  // The stand-in's own, for its functions.
  std::uint8_t* bytes() { return bytes_.data(); }
  const std::uint8_t* bytes() const { return bytes_.data(); }

 private:
  alignas(32) std::array<std::uint8_t, kBytes> bytes_{};
};

template <unsigned kElements, typename T>
vector<T, kElements> load_v(const T* p) {
  vector<T, kElements> out;
  standin::CheckAligned(p, out.kBytes);
  std::memcpy(out.bytes(), p, out.kBytes);
  return out;
}

template <typename T, unsigned kElements>
T* store_v(T* p, const vector<T, kElements>& v) {
  standin::CheckAligned(p, v.kBytes);
  std::memcpy(p, v.bytes(), v.kBytes);
  return p;
}

template <typename T, unsigned kElements>
vector<T, kElements> broadcast(T value) {
  vector<T, kElements> out;
  for (unsigned i = 0; i < kElements; ++i) out.set(value, i);
  return out;
}

template <typename T, unsigned kElements>
vector<T, kElements> zeros() {
  return broadcast<T, kElements>(T{});
}

template <typename T, unsigned kElements, typename... Rest>
auto concat(const vector<T, kElements>& first, const Rest&... rest) {
  vector<T, kElements*(1 + sizeof...(Rest))> out;
  unsigned at = 0;
  const auto append = [&](const vector<T, kElements>& v) {
    std::memcpy(out.bytes() + at, v.bytes(), v.kBytes);
    at += v.kBytes;
  };
  append(first);
  (append(rest), ...);
  return out;
}

// The low nibble of a byte comes first.
template <unsigned kElements>
vector<int8, kElements> unpack(const vector<int4, kElements>& v) {
  vector<int8, kElements> out;
  for (unsigned i = 0; i < kElements / 2; ++i) {
    const unsigned byte = v.bytes()[i];
    // Flipping the sign's bit and taking 8 away extends it.
    out.bytes()[2 * i] = static_cast<std::uint8_t>(((byte & 15) ^ 8) - 8);
    out.bytes()[2 * i + 1] = static_cast<std::uint8_t>(((byte >> 4) ^ 8) - 8);
  }
  return out;
}

// int32 lanes wrap as the cores' do.
template <typename T, unsigned kElements>
vector<T, kElements> add(const vector<T, kElements>& a, T b) {
  vector<T, kElements> out;
  for (unsigned i = 0; i < kElements; ++i) {
    if constexpr (std::is_same_v<T, int32>) {
      out.set(
          static_cast<int32>(static_cast<std::uint32_t>(a.get(i)) + static_cast<std::uint32_t>(b)),
          i);
    } else {
      out.set(a.get(i) + b, i);
    }
  }
  return out;
}

template <unsigned kElements>
vector<float, kElements> sub(const vector<float, kElements>& a, float b) {
  vector<float, kElements> out;
  for (unsigned i = 0; i < kElements; ++i) out.set(a.get(i) - b, i);
  return out;
}

namespace standin {

template <typename T, unsigned kElements, typename Function>
vector<T, kElements> EachOf(const vector<T, kElements>& a, const vector<T, kElements>& b,
                            const Function& function) {
  vector<T, kElements> out;
  for (unsigned i = 0; i < kElements; ++i) out.set(function(a.get(i), b.get(i)), i);
  return out;
}

}  // namespace standin

template <typename T, unsigned kElements>
vector<T, kElements> add(const vector<T, kElements>& a, const vector<T, kElements>& b) {
  return standin::EachOf(a, b, [](T x, T y) {
    if constexpr (std::is_same_v<T, int32>) {
      return static_cast<int32>(static_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(y));
    } else {
      return x + y;
    }
  });
}

template <unsigned kElements>
vector<float, kElements> sub(const vector<float, kElements>& a, const vector<float, kElements>& b) {
  return standin::EachOf(a, b, [](float x, float y) { return x - y; });
}

template <unsigned kElements>
vector<float, kElements> max(const vector<float, kElements>& a, const vector<float, kElements>& b) {
  return standin::EachOf(a, b, [](float x, float y) { return x < y ? y : x; });
}
template <unsigned kElements>
vector<float, kElements> max(const vector<float, kElements>& a, float b) {
  return max(a, broadcast<float, kElements>(b));
}

template <unsigned kElements>
vector<float, kElements> min(const vector<float, kElements>& a, float b) {
  return standin::EachOf(a, broadcast<float, kElements>(b),
                         [](float x, float y) { return y < x ? y : x; });
}

// As a tree: lanes i and i + half, until one is left.
template <unsigned kElements>
float reduce_add(const vector<float, kElements>& v) {
  std::array<float, kElements> lanes;
  std::memcpy(lanes.data(), v.bytes(), v.kBytes);
  for (unsigned half = kElements / 2; half > 0; half /= 2) {
    for (unsigned i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <unsigned kElements>
int32 reduce_add(const vector<int32, kElements>& v) {
  std::uint32_t sum = 0;
  for (unsigned i = 0; i < kElements; ++i) sum += static_cast<std::uint32_t>(v.get(i));
  return static_cast<int32>(sum);
}

template <unsigned kElements>
float reduce_max(const vector<float, kElements>& v) {
  float most = v.get(0);
  for (unsigned i = 1; i < kElements; ++i) most = most < v.get(i) ? v.get(i) : most;
  return most;
}

inline float inv(float value) { return 1.0f / value; }
inline float invsqrt(float value) { return 1.0f / std::sqrt(value); }

template <unsigned kElements>
vector<float, kElements> inv(const vector<float, kElements>& v) {
  return standin::EachOf(v, v, [](float x, float) { return 1.0f / x; });
}

template <unsigned kElements>
vector<int32, kElements> upshift(const vector<int32, kElements>& v, unsigned shift) {
  return standin::EachOf(v, v, [shift](int32 x, int32) {
    return static_cast<int32>(static_cast<std::uint32_t>(x) << shift);
  });
}

template <typename Tag, unsigned kElements>
class accum {
 public:
  using Lane = std::conditional_t<std::is_same_v<Tag, accfloat>, float, int32>;
  static_assert(kElements * sizeof(Lane) <= 256, "a core's accumulators have at most 2048 bits");

  void from_vector(const vector<Lane, kElements>& v) {
    for (unsigned i = 0; i < kElements; ++i) lanes[i] = v.get(i);
  }
  void from_vector(const vector<bfloat16, kElements>& v) {
    static_assert(std::is_same_v<Lane, float>, "bfloat16 goes to accfloat");
    for (unsigned i = 0; i < kElements; ++i) lanes[i] = v.get(i);
  }
  template <typename T>
  vector<T, kElements> to_vector() const {
    static_assert(
        std::is_same_v<T, Lane> || (std::is_same_v<T, bfloat16> && std::is_same_v<Lane, float>),
        "the kernels move accumulators as they are, or round them to bfloat16");
    vector<T, kElements> out;
    for (unsigned i = 0; i < kElements; ++i) {
      if constexpr (std::is_same_v<T, bfloat16>) {
        out.set(standin::RoundToBfloat16(lanes[i]), i);
      } else {
        out.set(lanes[i], i);
      }
    }
    return out;
  }
  template <unsigned kPart>
  accum<Tag, kPart> extract(unsigned part) const {
    accum<Tag, kPart> out;
    for (unsigned i = 0; i < kPart; ++i) out.lanes[i] = lanes[part * kPart + i];
    return out;
  }

  // The stand-in's own, for its functions.
  std::array<Lane, kElements> lanes{};
};

template <unsigned kElements>
accum<accfloat, kElements> mul(const vector<float, kElements>& a,
                               const vector<float, kElements>& b) {
  accum<accfloat, kElements> out;
  for (unsigned i = 0; i < kElements; ++i) out.lanes[i] = a.get(i) * b.get(i);
  return out;
}

template <unsigned kElements>
accum<accfloat, kElements> mac(const accum<accfloat, kElements>& sum,
                               const vector<float, kElements>& a,
                               const vector<float, kElements>& b) {
  accum<accfloat, kElements> out = sum;
  for (unsigned i = 0; i < kElements; ++i) {
    const float product = a.get(i) * b.get(i);
    out.lanes[i] += product;
  }
  return out;
}

template <unsigned kElements>
accum<acc32, kElements> mac(const accum<acc32, kElements>& sum, const vector<int8, kElements>& a,
                            const vector<int8, kElements>& b) {
  accum<acc32, kElements> out = sum;
  for (unsigned i = 0; i < kElements; ++i) out.lanes[i] += int32{a.get(i)} * int32{b.get(i)};
  return out;
}

template <unsigned kElements>
accum<acc32, kElements> mul(const vector<int8, kElements>& a, const vector<int8, kElements>& b) {
  return mac(accum<acc32, kElements>(), a, b);
}

namespace standin {

// sums (rows x 8) += a (rows x 8) b (8 x 8): nearly all that the kernels do on the host.
#if defined(__SSE2__)
// Two columns of `a` at a time, which every x86-64 multiplies and adds in one instruction.
inline void AddProduct(const vector<int8, 64>& b, const int8* a, unsigned rows, int32* sums) {
  const auto wide = [](const void* eight) {
    const __m128i bytes = _mm_loadl_epi64(static_cast<const __m128i*>(eight));
    return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
  };
  __m128i left[4], right[4];
  for (unsigned pair = 0; pair < 4; ++pair) {
    const __m128i even = wide(b.bytes() + pair * 16);
    const __m128i odd = wide(b.bytes() + pair * 16 + 8);
    left[pair] = _mm_unpacklo_epi16(even, odd);
    right[pair] = _mm_unpackhi_epi16(even, odd);
  }
  for (unsigned m = 0; m < rows; ++m) {
    auto* const out = reinterpret_cast<__m128i*>(sums + m * 8);
    __m128i low = _mm_loadu_si128(out), high = _mm_loadu_si128(out + 1);
    const __m128i row = wide(a + m * 8);
    const __m128i pairs[] = {_mm_shuffle_epi32(row, 0x00), _mm_shuffle_epi32(row, 0x55),
                             _mm_shuffle_epi32(row, 0xaa), _mm_shuffle_epi32(row, 0xff)};
    for (unsigned pair = 0; pair < 4; ++pair) {
      low = _mm_add_epi32(low, _mm_madd_epi16(pairs[pair], left[pair]));
      high = _mm_add_epi32(high, _mm_madd_epi16(pairs[pair], right[pair]));
    }
    _mm_storeu_si128(out, low);
    _mm_storeu_si128(out + 1, high);
  }
}
#else
inline void AddProduct(const vector<int8, 64>& b, const int8* a, unsigned rows, int32* sums) {
  for (unsigned m = 0; m < rows; ++m) {
    for (unsigned k = 0; k < 8; ++k) {
      for (unsigned n = 0; n < 8; ++n) sums[m * 8 + n] += int32{a[m * 8 + k]} * b.get(k * 8 + n);
    }
  }
}
#endif

}  // namespace standin

// C (M x N) += A (M x K) B (K x N), all row by row.
template <unsigned M, unsigned K, unsigned N, typename A, typename B, typename Tag>
class mmul {
 public:
  static_assert((M == 4 || M == 8) && K == 8 && N == 8 && std::is_same_v<A, int8> &&
                    std::is_same_v<B, int8> && std::is_same_v<Tag, acc32>,
                "expected a shape of an int8 instruction");
  void mul(const vector<A, M * K>& a, const vector<B, K * N>& b) {
    sums_ = {};
    mac(a, b);
  }
  void mac(const vector<A, M * K>& a, const vector<B, K * N>& b) {
    standin::AddProduct(b, reinterpret_cast<const int8*>(a.bytes()), M, sums_.lanes.data());
  }
  accum<Tag, M * N> to_accum() const { return sums_; }

 private:
  accum<Tag, M * N> sums_;
};

}  // namespace AIE_STANDIN_GENERATION
}  // namespace aie

#include "aie_api/bfloat16.hpp"
