#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "lib/device/cpu/kernels.h"
#include "lib/device/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/device/cpu/vector_kernels.cc"
// Before what it includes again for each target.
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tandem {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(D()));

float InverseRms(const float* x, std::int64_t n, float eps) {
  const D d;
  V sum0 = hn::Zero(d);
  V sum1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const V a = hn::LoadU(d, x + i);
    const V b = hn::LoadU(d, x + i + kLanes);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

void RmsNormRowImpl(const float* x, const float* weights, std::int64_t n, float eps, float* out) {
  const D d;
  const float inverse = InverseRms(x, n, eps);
  const V scale = hn::Set(d, inverse);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::LoadU(d, weights + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = x[i] * inverse * weights[i];
}

void AddRmsNormRowImpl(const float* base, const float* x, const float* weights, std::int64_t n,
                       float eps, float* out) {
  const D d;
  const float inverse = InverseRms(x, n, eps);
  const V scale = hn::Set(d, inverse);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V normed = hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::LoadU(d, weights + i));
    hn::StoreU(hn::Add(hn::LoadU(d, base + i), normed), d, out + i);
  }
  for (; i < n; ++i) out[i] = base[i] + x[i] * inverse * weights[i];
}

// gelu_tanh(x) = x / (1 + exp(-2 y)) with y = sqrt(2 / pi) (x + 0.044715 x^3).
HWY_INLINE V Gelu(V x) {
  const D d;
  const V cube = hn::Mul(hn::Mul(x, x), x);
  const V y = hn::Mul(hn::Set(d, 0.7978845608f), hn::MulAdd(hn::Set(d, 0.044715f), cube, x));
  const V exponent =
      hn::Min(hn::Max(hn::Mul(y, hn::Set(d, -2.0f)), hn::Set(d, -80.0f)), hn::Set(d, 80.0f));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), hn::Exp(d, exponent)));
}

void GeGluRowImpl(float* gate, const float* up, std::int64_t n) {
  const D d;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(hn::Mul(Gelu(hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, gate + i);
  }
  if (i == n) return;
  alignas(64) float rest[kLanes] = {};
  std::copy(gate + i, gate + n, rest);
  hn::Store(Gelu(hn::Load(d, rest)), d, rest);
  for (std::int64_t j = i; j < n; ++j) gate[j] = rest[j - i] * up[j];
}

void RotateRowImpl(float* x, const float* cosines, const float* sines, std::int64_t n,
                   float scale) {
  const D d;
  const std::int64_t half = n / 2;
  const V factor = hn::Set(d, scale);
  std::int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const V a = hn::LoadU(d, x + i);
    const V b = hn::LoadU(d, x + half + i);
    const V c = hn::LoadU(d, cosines + i);
    const V s = hn::LoadU(d, sines + i);
    hn::StoreU(hn::Mul(factor, hn::Sub(hn::Mul(a, c), hn::Mul(b, s))), d, x + i);
    hn::StoreU(hn::Mul(factor, hn::Add(hn::Mul(b, c), hn::Mul(a, s))), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i];
    const float b = x[half + i];
    x[i] = scale * (a * cosines[i] - b * sines[i]);
    x[half + i] = scale * (b * cosines[i] + a * sines[i]);
  }
}

// Elements of a cache row, of any type; int8 ones still lack the scale of their row.
HWY_INLINE V LoadElements(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE V LoadElements(const hwy::float16_t* p) {
  return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<hwy::float16_t, D>(), p));
}
HWY_INLINE V LoadElements(const std::int8_t* p) {
  const hn::Rebind<std::int32_t, D> d32;
  return hn::ConvertTo(D(), hn::PromoteTo(d32, hn::LoadU(hn::Rebind<std::int8_t, D>(), p)));
}
HWY_INLINE void StoreElements(V v, float* p) { hn::StoreU(v, D(), p); }
HWY_INLINE void StoreElements(V v, hwy::float16_t* p) {
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, p);
}

template <typename T>
void StoreRow(const float* x, std::int64_t n, T* out) {
  for (std::int64_t i = 0; i < n; i += kLanes) StoreElements(hn::LoadU(D(), x + i), out + i);
}

// Returns the scale of the row.
float StoreInt8Row(const float* x, std::int64_t n, std::int8_t* out) {
  const D d;
  V most = hn::Zero(d);
  for (std::int64_t i = 0; i < n; i += kLanes) most = hn::Max(most, hn::Abs(hn::LoadU(d, x + i)));
  const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  const V inverse = hn::Set(d, largest > 0 ? 127.0f / largest : 0.0f);
  const hn::Rebind<std::int8_t, D> d8;
  for (std::int64_t i = 0; i < n; i += kLanes)
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), inverse))), d8,
               out + i);
  return largest / 127.0f;
}

void StoreKvImpl(const float* x, std::int64_t n, KvType type, std::byte* head, std::int64_t token) {
  switch (type) {
    case KvType::kFloat32:
      return StoreRow(x, n, reinterpret_cast<float*>(head) + token * n);
    case KvType::kFloat16:
      return StoreRow(x, n, reinterpret_cast<hwy::float16_t*>(head) + token * n);
    case KvType::kInt8: {
      auto* rows = reinterpret_cast<std::int8_t*>(head);
      reinterpret_cast<float*>(rows + kKvBlockTokens * n)[token] =
          StoreInt8Row(x, n, rows + token * n);
    }
  }
}

// Multiplies what belongs to the tokens of a block of int8 by the scales behind its rows.
HWY_INLINE void TimesScales(const std::int8_t* rows, std::int64_t n, const float* in, float* out) {
  const D d;
  const auto* scales = reinterpret_cast<const float*>(rows + kKvBlockTokens * n);
  for (std::int64_t i = 0; i < kKvBlockTokens; i += kLanes)
    hn::Store(hn::Mul(hn::Load(d, in + i), hn::LoadU(d, scales + i)), d, out + i);
}

// The scores of kHeads queries, one behind another, for one key.
template <int kHeads, typename T>
HWY_INLINE void Dots(const float* queries, const T* key, std::int64_t n, float* scores,
                     std::int64_t score_stride) {
  const D d;
  V sum0[kHeads];
  V sum1[kHeads];
  for (int h = 0; h < kHeads; ++h) sum0[h] = sum1[h] = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const V key0 = LoadElements(key + i);
    const V key1 = LoadElements(key + i + kLanes);
    for (int h = 0; h < kHeads; ++h) {
      sum0[h] = hn::MulAdd(hn::LoadU(d, queries + h * n + i), key0, sum0[h]);
      sum1[h] = hn::MulAdd(hn::LoadU(d, queries + h * n + i + kLanes), key1, sum1[h]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    if (i < n)
      sum0[h] = hn::MulAdd(hn::LoadU(d, queries + h * n + i), LoadElements(key + i), sum0[h]);
    scores[h * score_stride] = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0[h], sum1[h])));
  }
}

// Softmax weights of one block, in place; returns their sum. `best` is the largest score so far and
// becomes it; *shrink is what earlier sums lose.
HWY_INLINE float BlockSoftmax(float* scores, float* best, float* shrink) {
  const D d;
  V most = hn::Set(d, *best);
  for (std::int64_t i = 0; i < kKvBlockTokens; i += kLanes)
    most = hn::Max(most, hn::Load(d, scores + i));
  const V maximum = hn::MaxOfLanes(d, most);
  const V before = hn::Exp(d, hn::Sub(hn::Set(d, *best), maximum));
  *shrink = hn::GetLane(before);
  *best = hn::GetLane(maximum);
  V total = hn::Zero(d);
  for (std::int64_t i = 0; i < kKvBlockTokens; i += kLanes) {
    const V weights = hn::Exp(d, hn::Sub(hn::Load(d, scores + i), maximum));
    hn::Store(weights, d, scores + i);
    total = hn::Add(total, weights);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

// kHeads heads over the same keys and values, which are loaded once. A head's bits do not depend on
// kHeads.
template <typename T, int kHeads>
void AttendHeads(const AttendJob& job, const float* queries, float* out) {
  // Stands for minus infinity: exp of its distance to any score is 0.
  constexpr float kNever = -1e30f;
  constexpr bool kScaled = std::is_same_v<T, std::int8_t>;
  const D d;
  const std::int64_t n = job.head_dim;
  float best[kHeads];
  float total[kHeads] = {};
  std::fill_n(best, kHeads, kNever);
  std::fill_n(out, kHeads * n, 0.0f);
  for (std::int64_t at = job.first_position; at <= job.last_position;) {
    const std::int64_t first = at % kKvBlockTokens;
    const std::int64_t end =
        std::min<std::int64_t>(kKvBlockTokens, first + job.last_position - at + 1);
    const std::int64_t offset = job.blocks[at / kKvBlockTokens] * job.block_bytes;
    const T* keys = reinterpret_cast<const T*>(job.keys + offset);
    const T* values = reinterpret_cast<const T*>(job.values + offset);
    alignas(64) float scores[kHeads][kKvBlockTokens];
    std::fill_n(scores[0], kHeads * kKvBlockTokens, kNever);
    for (std::int64_t i = first; i < end; ++i)
      Dots<kHeads>(queries, keys + i * n, n, scores[0] + i, kKvBlockTokens);
    float shrink[kHeads];
    for (int h = 0; h < kHeads; ++h) {
      if constexpr (kScaled) {
        TimesScales(keys, n, scores[h], scores[h]);
        std::fill(scores[h], scores[h] + first, kNever);
        std::fill(scores[h] + end, scores[h] + kKvBlockTokens, kNever);
      }
      const float block_total = BlockSoftmax(scores[h], &best[h], &shrink[h]);
      total[h] = total[h] * shrink[h] + block_total;
      if constexpr (kScaled) TimesScales(values, n, scores[h], scores[h]);
    }
    for (std::int64_t c = 0; c < n; c += kLanes) {
      V sums[kHeads];
      for (int h = 0; h < kHeads; ++h)
        sums[h] = hn::Mul(hn::LoadU(d, out + h * n + c), hn::Set(d, shrink[h]));
      for (std::int64_t i = first; i < end; ++i) {
        const V value = LoadElements(values + i * n + c);
        for (int h = 0; h < kHeads; ++h)
          sums[h] = hn::MulAdd(hn::Set(d, scores[h][i]), value, sums[h]);
      }
      for (int h = 0; h < kHeads; ++h) hn::StoreU(sums[h], d, out + h * n + c);
    }
    at += end - first;
  }
  for (int h = 0; h < kHeads; ++h) {
    const V inverse = hn::Set(d, 1.0f / total[h]);
    for (std::int64_t c = h * n; c < (h + 1) * n; c += kLanes)
      hn::StoreU(hn::Mul(hn::LoadU(d, out + c), inverse), d, out + c);
  }
}

template <typename T>
void AttendOf(const AttendJob& job) {
  const std::int64_t n = job.head_dim;
  std::int64_t h = 0;
  for (; h + 4 <= job.heads; h += 4) AttendHeads<T, 4>(job, job.query + h * n, job.out + h * n);
  for (; h + 2 <= job.heads; h += 2) AttendHeads<T, 2>(job, job.query + h * n, job.out + h * n);
  for (; h < job.heads; ++h) AttendHeads<T, 1>(job, job.query + h * n, job.out + h * n);
}

void AttendImpl(const AttendJob& job) {
  switch (job.type) {
    case KvType::kFloat32:
      return AttendOf<float>(job);
    case KvType::kFloat16:
      return AttendOf<hwy::float16_t>(job);
    case KvType::kInt8:
      return AttendOf<std::int8_t>(job);
  }
}

const char* TargetNameImpl() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tandem
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem {

HWY_EXPORT(RmsNormRowImpl);
HWY_EXPORT(AddRmsNormRowImpl);
HWY_EXPORT(GeGluRowImpl);
HWY_EXPORT(RotateRowImpl);
HWY_EXPORT(StoreKvImpl);
HWY_EXPORT(AttendImpl);
HWY_EXPORT(TargetNameImpl);

void RmsNormRow(const float* x, const float* weights, std::int64_t n, float eps, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNormRowImpl)(x, weights, n, eps, out);
}

void AddRmsNormRow(const float* base, const float* x, const float* weights, std::int64_t n,
                   float eps, float* out) {
  HWY_DYNAMIC_DISPATCH(AddRmsNormRowImpl)(base, x, weights, n, eps, out);
}

void GeGluRow(float* gate, const float* up, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(GeGluRowImpl)(gate, up, n);
}

void RotateRow(float* x, const float* cosines, const float* sines, std::int64_t n, float scale) {
  HWY_DYNAMIC_DISPATCH(RotateRowImpl)(x, cosines, sines, n, scale);
}

void StoreKv(const float* x, std::int64_t n, KvType type, std::byte* head, std::int64_t token) {
  HWY_DYNAMIC_DISPATCH(StoreKvImpl)(x, n, type, head, token);
}

void Attend(const AttendJob& job) { HWY_DYNAMIC_DISPATCH(AttendImpl)(job); }

std::string CpuTargetName() { return HWY_DYNAMIC_DISPATCH(TargetNameImpl)(); }

MatrixView ViewOf(const TensorView& tensor) {
  MatrixView view;
  view.format = tensor.format;
  view.rows = tensor.shape.rows;
  view.cols = tensor.shape.cols;
  view.values = reinterpret_cast<const std::uint8_t*>(tensor.values.data());
  view.scales = reinterpret_cast<const std::uint16_t*>(tensor.scales.data());
  return view;
}

}  // namespace tandem
#endif
