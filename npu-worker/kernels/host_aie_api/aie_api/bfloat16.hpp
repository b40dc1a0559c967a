#pragma once

// The stand-in's products of bfloat16 (aie.hpp): each is exact in float32, their sums round one by
// one, in the order of the columns. (A core adds an instruction's products in a tree of its own.)

namespace aie {
inline namespace AIE_STANDIN_GENERATION {

template <unsigned kElements>
accum<accfloat, kElements> mac(const accum<accfloat, kElements>& sum,
                               const vector<bfloat16, kElements>& a,
                               const vector<bfloat16, kElements>& b) {
  accum<accfloat, kElements> out = sum;
  for (unsigned i = 0; i < kElements; ++i) {
    const float product = float{a.get(i)} * float{b.get(i)};
    out.lanes[i] += product;
  }
  return out;
}

#if defined(__AIE_ARCH__) && __AIE_ARCH__ == 21
// How exact the instruction is, AMD does not say: rounded once, here.
template <typename To, unsigned kElements>
vector<To, kElements> exp2(const vector<float, kElements>& v) {
  static_assert(std::is_same_v<To, bfloat16>, "2^x comes as bfloat16");
  vector<To, kElements> out;
  for (unsigned i = 0; i < kElements; ++i)
    out.set(standin::RoundToBfloat16(std::exp2(v.get(i))), i);
  return out;
}
#endif

template <>
class mmul<4, 8, 8, bfloat16, bfloat16, accfloat> {
 public:
  mmul() = default;
  explicit mmul(const vector<float, 32>& sums) { sums_.from_vector(sums); }
  void mul(const vector<bfloat16, 32>& a, const vector<bfloat16, 64>& b) {
    sums_ = {};
    mac(a, b);
  }
  void mac(const vector<bfloat16, 32>& a, const vector<bfloat16, 64>& b) {
    for (unsigned k = 0; k < 8; ++k) {
      std::array<float, 8> row;
      for (unsigned n = 0; n < 8; ++n) row[n] = b.get(k * 8 + n);
      for (unsigned m = 0; m < 4; ++m) {
        const float left = a.get(m * 8 + k);
        for (unsigned n = 0; n < 8; ++n) sums_.lanes[m * 8 + n] += left * row[n];
      }
    }
  }
  template <typename T>
  vector<T, 32> to_vector() const {
    return sums_.template to_vector<T>();
  }

 private:
  accum<accfloat, 32> sums_;
};

}  // namespace AIE_STANDIN_GENERATION
}  // namespace aie
