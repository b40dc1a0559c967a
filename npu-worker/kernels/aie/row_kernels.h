#pragma once

#include <aie_api/aie.hpp>

#include "npu-worker/kernels/aie/product_kernel.h"
#include "npu-worker/kernels/rows_shape.h"

// What stands between the products of a layer, row by row, in float32, and attention over blocks as
// the cache has them, in float32 and int8: for the AIE compiler and (over host_aie_api) for the
// host. The design of rows (designs/rows.py) has no attention; that in bfloat16 (attention.cc) has
// its own. Rows are aligned to 64 bytes; their lengths are multiples of kRowLanes. Formulas are
// those of lib/device/cpu/kernels.h.

namespace tandem::npu {

inline constexpr unsigned kRowLanes = 16;
using Row = aie::vector<float, kRowLanes>;
using RowSum = aie::accum<accfloat, kRowLanes>;

inline Row LoadRow(const float* p) { return aie::load_v<kRowLanes>(p); }
inline Row Every(float value) { return aie::broadcast<float, kRowLanes>(value); }
inline Row Times(const Row& a, const Row& b) { return aie::mul(a, b).template to_vector<float>(); }
// a * b + c.
inline Row MulAdd(const Row& a, const Row& b, const Row& c) {
  RowSum sum;
  sum.from_vector(c);
  return aie::mac(sum, a, b).template to_vector<float>();
}

// The sum of squares of a chunk of a row, and in `out` x * weights: scaled by 1 / rms(x) they are
// what RMSNorm gives.
inline float WeighRow(const float* x, const float* weights, unsigned n, float* out) {
  RowSum squares;
  squares.from_vector(aie::zeros<float, kRowLanes>());
  for (unsigned i = 0; i < n; i += kRowLanes) {
    const Row v = LoadRow(x + i);
    squares = aie::mac(squares, v, v);
    aie::store_v(out + i, Times(v, LoadRow(weights + i)));
  }
  return aie::reduce_add(squares.template to_vector<float>());
}
inline void ScaleRow(const float* x, unsigned n, float scale, float* out) {
  const Row factor = Every(scale);
  for (unsigned i = 0; i < n; i += kRowLanes) aie::store_v(out + i, Times(LoadRow(x + i), factor));
}
inline void CopyRow(const float* x, unsigned n, float* out) {
  for (unsigned i = 0; i < n; i += kRowLanes) aie::store_v(out + i, LoadRow(x + i));
}

// Turns (x[i], x[i + half]) by an angle whose cosine and sine are given, and scales.
inline void Rotate(float* x, const float* cosines, const float* sines, unsigned half, float scale) {
  const Row factor = Every(scale);
  for (unsigned i = 0; i < half; i += kRowLanes) {
    const Row a = LoadRow(x + i);
    const Row b = LoadRow(x + half + i);
    const Row c = LoadRow(cosines + i);
    const Row s = LoadRow(sines + i);
    aie::store_v(x + i, Times(factor, aie::sub(Times(a, c), Times(b, s))));
    aie::store_v(x + half + i, Times(factor, aie::add(Times(b, c), Times(a, s))));
  }
}

// e^x for x in [-80, 80]: 2^n * 2^f with n whole and f in [-1/2, 1/2]. Adding 1.5 * 2^23 rounds to
// n, in the low bits of the sum (product_kernel.h); 2^f is its Taylor polynomial, off by less than
// 2e-7; n is added to the exponent's bits. Neither generation has an exponential in float32.
inline Row Exp(const Row& x) {
  const Row y = Times(x, Every(1.44269504f));
  const Row rounded = aie::add(y, Every(kFloatBias));
  const Row f = aie::sub(y, aie::sub(rounded, kFloatBias));
  Row p = Every(1.54035304e-4f);
  for (const float coefficient :
       {1.33335581e-3f, 9.61812911e-3f, 5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.0f}) {
    p = MulAdd(p, f, Every(coefficient));
  }
  const aie::vector<int32, kRowLanes> n =
      aie::add(rounded.template cast_to<int32>(), static_cast<int32>(-kFloatBits));
  return aie::add(p.template cast_to<int32>(), aie::upshift(n, 23)).template cast_to<float>();
}

// gate = gelu_tanh(gate) * up, with gelu_tanh(x) = x / (1 + exp(-2 y)) and
// y = sqrt(2 / pi) (x + 0.044715 x^3).
inline void GeGlu(float* gate, const float* up, unsigned n) {
  for (unsigned i = 0; i < n; i += kRowLanes) {
    const Row x = LoadRow(gate + i);
    const Row cube = Times(Times(x, x), x);
    const Row inner = MulAdd(Every(0.044715f), cube, x);
    const Row exponent = aie::min(aie::max(Times(inner, Every(-2 * 0.7978845608f)), -80.0f), 80.0f);
    const Row gelu = Times(x, aie::inv(aie::add(Exp(exponent), Every(1.0f))));
    aie::store_v(gate + i, Times(gelu, LoadRow(up + i)));
  }
}

// A chunk of a row, with what goes with it, to its place in `row`.
inline void TakeChunk(const float* pair, RowsProgress* now, float* row) {
  const float* operand = pair + kRowChunk;
  float* out = row + static_cast<unsigned>(now->taken) * kRowChunk;
  if (now->header.operation == RowOperation::kRmsNorm) {
    now->squares += WeighRow(pair, operand, kRowChunk, out);
  } else {
    CopyRow(pair, kRowChunk, out);
    if (now->header.operation == RowOperation::kGeGlu) {
      GeGlu(out, operand, kRowChunk);
    } else {
      const auto half = static_cast<unsigned>(now->header.half);
      for (unsigned head = 0; head < kRowChunk; head += 2 * half)
        Rotate(out + head, operand, operand + half, half, now->header.scale);
    }
  }
  ++now->taken;
}

// The next chunk of what came of the row; behind the last, the next row begins.
inline void GiveChunk(const float* row, RowsProgress* now, float* out) {
  const float* from = row + static_cast<unsigned>(now->given) * kRowChunk;
  if (now->header.operation == RowOperation::kRmsNorm) {
    const float mean = now->squares * now->header.inverse_n;
    ScaleRow(from, kRowChunk, aie::invsqrt(mean + now->header.eps), out);
  } else {
    CopyRow(from, kRowChunk, out);
  }
  if (++now->given == now->header.chunks) {
    now->taken = 0;
    now->given = 0;
    now->squares = 0;
  }
}

// What attention over earlier blocks of keys came to: the largest score, and the sum of
// exp(score - best). Begins as {kNoScore, 0}.
struct AttentionState {
  float best;
  float total;
};
inline constexpr float kNoScore = -1e30f;
inline constexpr unsigned kBlockKeys = 16;

// The weights of a block's keys, by their scores, and what is left of everything before: softmax as
// far as it has come.
struct BlockWeights {
  Row weights;
  Row shrink;
};
inline BlockWeights TakeScores(const Row& scores, unsigned count, AttentionState* state) {
  const Row seen = aie::max(scores, state->best);
  const float best = aie::reduce_max(seen);
  const Row weights = Exp(aie::max(aie::sub(scores, best), -80.0f));
  const Row before = Exp(aie::max(aie::sub(Every(state->best), best), -80.0f));
  const Row shrink = state->best == kNoScore ? Every(0.0f) : before;
  float total = state->total * shrink.get(0);
  for (unsigned k = 0; k < count; ++k) total += weights.get(k);
  *state = {best, total};
  return {weights, shrink};
}

// One query (scaled already) over `count` keys and values of a block, (kBlockKeys, dim) each:
// score, softmax, value. `out`, (dim), holds the sum of weights * values; divided by the total
// after the last block it is the head's output.
inline void AttendBlock(const float* query, const float* keys, const float* values, unsigned count,
                        unsigned dim, AttentionState* state, float* out) {
  Row scores = Every(kNoScore);
  for (unsigned k = 0; k < count; ++k) {
    RowSum dot;
    dot.from_vector(aie::zeros<float, kRowLanes>());
    for (unsigned i = 0; i < dim; i += kRowLanes)
      dot = aie::mac(dot, LoadRow(query + i), LoadRow(keys + k * dim + i));
    scores.set(aie::reduce_add(dot.template to_vector<float>()), k);
  }
  const BlockWeights block = TakeScores(scores, count, state);
  for (unsigned i = 0; i < dim; i += kRowLanes) {
    Row sum = Times(LoadRow(out + i), block.shrink);
    for (unsigned k = 0; k < count; ++k)
      sum = MulAdd(Every(block.weights.get(k)), LoadRow(values + k * dim + i), sum);
    aie::store_v(out + i, sum);
  }
}

// Whole numbers below 2^22 as float32, exactly (product_kernel.h).
template <unsigned kLanes>
inline aie::vector<float, kLanes> ExactFloats(const aie::vector<int32, kLanes>& whole) {
  return aie::sub(aie::add(whole, kFloatBits).template cast_to<float>(), kFloatBias);
}

inline constexpr unsigned kInt8Lanes = 32;
using Int8Sum = aie::accum<acc32, kInt8Lanes>;

// The same with products of int8. Keys and values as KvType::kInt8 has them
// (lib/model/kv_layout.h): (kBlockKeys, dim) integers, behind them a float32 scale of each row.
// `query`, (dim), times `query_scale`. Scores come from exact sums; each key's weight, times its
// value's scale, is rounded to an int8 of the block's largest one. dim is a multiple of 32, and 256
// at most.
inline void AttendBlockInt8(const int8* query, float query_scale, const int8* keys,
                            const int8* values, unsigned count, unsigned dim, AttentionState* state,
                            float* out) {
  const float* key_scales = reinterpret_cast<const float*>(keys + kBlockKeys * dim);
  const float* value_scales = reinterpret_cast<const float*>(values + kBlockKeys * dim);
  aie::vector<int32, kRowLanes> dots = aie::zeros<int32, kRowLanes>();
  for (unsigned k = 0; k < count; ++k) {
    Int8Sum dot = aie::mul(aie::load_v<kInt8Lanes>(query), aie::load_v<kInt8Lanes>(keys + k * dim));
    for (unsigned i = kInt8Lanes; i < dim; i += kInt8Lanes) {
      dot = aie::mac(dot, aie::load_v<kInt8Lanes>(query + i),
                     aie::load_v<kInt8Lanes>(keys + k * dim + i));
    }
    dots.set(aie::reduce_add(dot.template to_vector<int32>()), k);
  }
  const Row products = Times(ExactFloats(dots), Times(LoadRow(key_scales), Every(query_scale)));
  Row scores = Every(kNoScore);
  for (unsigned k = 0; k < count; ++k) scores.set(products.get(k), k);
  const BlockWeights block = TakeScores(scores, count, state);
  // Keys that are not there have no scale either.
  Row scaled = aie::zeros<float, kRowLanes>();
  for (unsigned k = 0; k < count; ++k) scaled.set(block.weights.get(k) * value_scales[k], k);
  const float largest = aie::reduce_max(scaled);
  // Nothing is divided where all values are zero.
  const float step = largest / 127.0f;
  const Row steps = step > 0 ? Times(scaled, aie::inv(Every(step))) : scaled;
  const aie::vector<int32, kRowLanes> rounded =
      aie::add(aie::add(steps, Every(kFloatBias)).template cast_to<int32>(),
               static_cast<int32>(-kFloatBits));
  for (unsigned i = 0; i < dim; i += kInt8Lanes) {
    Int8Sum sum = aie::mul(aie::broadcast<int8, kInt8Lanes>(static_cast<int8>(rounded.get(0))),
                           aie::load_v<kInt8Lanes>(values + i));
    for (unsigned k = 1; k < count; ++k) {
      sum = aie::mac(sum, aie::broadcast<int8, kInt8Lanes>(static_cast<int8>(rounded.get(k))),
                     aie::load_v<kInt8Lanes>(values + k * dim + i));
    }
    for (unsigned half = 0; half < 2; ++half) {
      float* at = out + i + half * kRowLanes;
      const Row exact =
          ExactFloats(sum.template extract<kRowLanes>(half).template to_vector<int32>());
      aie::store_v(at, MulAdd(exact, Every(step), Times(LoadRow(at), block.shrink)));
    }
  }
}

}  // namespace tandem::npu
