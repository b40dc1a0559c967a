// Attention of one core in bfloat16 with float32 sums: score, softmax, value over a chunk of keys
// and values at a time. Built once for each generation of the array, by tandem-npu-kernels, and
// (over host_aie_api) for the host. Everything is counted in powers of two: the queries come scaled
// by log2(e). Each key's weight is 2^(score - reference), rounded to bfloat16; a query's reference
// follows its largest score, at most kHeadroom below it, so that what was summed before is scaled
// anew only now and then.
#include <aie_api/aie.hpp>

#include "npu-worker/kernels/aie/product_kernel.h"
#include "npu-worker/kernels/attention_shape.h"

#if __AIE_ARCH__ != 20 && __AIE_ARCH__ != 21
#error "expected an AIE2 (20) or AIE2P (21) core"
#endif

namespace tandem::npu {
namespace {

using Numbers = aie::vector<bfloat16, kQuadLanes>;
using Lanes = aie::vector<float, kQuadLanes>;
using Sums = aie::accum<accfloat, kQuadLanes>;
using Product = aie::mmul<kQuad, kOctet, kOctet, bfloat16, bfloat16, accfloat>;
constexpr unsigned kOctetSquare = kOctet * kOctet;

// Of a key that a query does not see, and the lowest reference: such a key's weight is then 2^-120
// even where a query has seen no other.
constexpr float kUnseen = -1e30f;
constexpr float kLowestReference = -1e29f;
constexpr float kLowestPower = -120.0f;
constexpr float kHeadroom = 8.0f;

Lanes EveryLane(float value) { return aie::broadcast<float, kQuadLanes>(value); }
Sums SumsOf(const Lanes& v) {
  Sums sums;
  sums.from_vector(v);
  return sums;
}
Lanes Floats(const Numbers& v) {
  Sums sums;
  sums.from_vector(v);
  return sums.template to_vector<float>();
}
Lanes TimesLanes(const Lanes& a, const Lanes& b) {
  return aie::mul(a, b).template to_vector<float>();
}

#if __AIE_ARCH__ == 20
Numbers Rounded(const Lanes& v) { return SumsOf(v).template to_vector<bfloat16>(); }
// coefficient + a * b, the sum in float32.
Numbers Step(float coefficient, const Numbers& a, const Numbers& b) {
  return aie::mac(SumsOf(EveryLane(coefficient)), a, b).template to_vector<bfloat16>();
}
#endif

// 2^x for x in [-120, 8], rounded to bfloat16. AIE2P has it as an instruction. On AIE2 it is
// 2^n * 2^f with n whole and f in [-1/2, 1/2]: adding 1.5 * 2^23 rounds to n, in the low bits of
// the sum; 2^f is a polynomial of bfloat16 products; n is added to the exponent's bits. It is off
// by at most 1.24 * 2^-8 of itself, of which rounding alone makes 2^-8.
Numbers PowerOfTwo(const Lanes& x) {
#if __AIE_ARCH__ == 21
  return aie::exp2<bfloat16>(x);
#else
  const Lanes whole = aie::add(x, EveryLane(kFloatBias));
  const Numbers f = Rounded(aie::sub(x, aie::sub(whole, kFloatBias)));
  Numbers p = Step(0.2402265f, f, aie::broadcast<bfloat16, kQuadLanes>(bfloat16(0.0555041f)));
  p = Step(0.6931472f, f, p);
  const Lanes power = aie::mac(SumsOf(EveryLane(1.0f)), f, p).template to_vector<float>();
  const aie::vector<int32, kQuadLanes> n =
      aie::add(whole.template cast_to<int32>(), static_cast<int32>(-kFloatBits));
  return Rounded(
      aie::add(power.template cast_to<int32>(), aie::upshift(n, 23)).template cast_to<float>());
#endif
}

// What each query makes of its 8 lanes, in all 8 of them.
template <typename Function>
Lanes OfEachQuery(const Lanes& v, const Function& function) {
  const auto every = [&](unsigned query) {
    return aie::broadcast<float, kOctet>(function(v.template extract<kOctet>(query)));
  };
  return aie::concat(every(0), every(1), every(2), every(3));
}

// The queries of a quad, and the keys that they see.
struct Quad {
  const bfloat16* queries;  // [octet of dimensions][query][dimension]
  const int32* first;
  const int32* end;
  float* references;
  float* totals;
  float* out;
};

// Whether no query of the quad sees any key of [begin, end), and whether all see all.
bool SeesNothing(const Quad& quad, int32 begin, int32 end) {
  for (unsigned q = 0; q < kQuad; ++q) {
    if (quad.first[q] < end && quad.end[q] > begin) return false;
  }
  return true;
}
bool SeesAll(const Quad& quad, int32 begin, int32 end) {
  for (unsigned q = 0; q < kQuad; ++q) {
    if (quad.first[q] > begin || quad.end[q] < end) return false;
  }
  return true;
}

// Scores of a chunk, an octet of keys in each: all products, then what is not seen.
template <unsigned kHeadDim>
struct Scores {
  static constexpr unsigned kOctets = AttentionRows(kHeadDim) / kOctet;
  Lanes octets[kOctets];

  Scores(const Quad& quad, const bfloat16* keys) {
    constexpr unsigned kDimensions = kHeadDim / kOctet;
    for (unsigned o = 0; o < kOctets; ++o) {
      const bfloat16* at = keys + o * kDimensions * kOctetSquare;
      Product sums;
      sums.mul(aie::load_v<kQuadLanes>(quad.queries), aie::load_v<kOctetSquare>(at));
      for (unsigned d = 1; d < kDimensions; ++d) {
        sums.mac(aie::load_v<kQuadLanes>(quad.queries + d * kQuadLanes),
                 aie::load_v<kOctetSquare>(at + d * kOctetSquare));
      }
      octets[o] = sums.template to_vector<float>();
    }
  }

  void Hide(const Quad& quad, int32 begin) {
    for (unsigned o = 0; o < kOctets; ++o) {
      for (unsigned lane = 0; lane < kQuadLanes; ++lane) {
        const unsigned q = lane / kOctet;
        const int32 key = begin + static_cast<int32>(o * kOctet + lane % kOctet);
        if (key < quad.first[q] || key >= quad.end[q]) octets[o].set(kUnseen, lane);
      }
    }
  }

  // Each query's largest.
  Lanes Best() const {
    Lanes best = octets[0];
    for (unsigned o = 1; o < kOctets; ++o) best = aie::max(best, octets[o]);
    return OfEachQuery(best, [](const auto& lanes) { return aie::reduce_max(lanes); });
  }
};

// Scales what was summed before to a reference that these scores may have.
template <unsigned kHeadDim>
Lanes FollowBest(const Quad& quad, const Lanes& best) {
  const Lanes before = aie::load_v<kQuadLanes>(quad.references);
  if (aie::reduce_max(aie::sub(best, before)) <= kHeadroom) return before;
  const Lanes reference = aie::max(aie::max(best, before), kLowestReference);
  const Lanes shrink = Floats(PowerOfTwo(aie::max(aie::sub(before, reference), kLowestPower)));
  aie::store_v(quad.references, reference);
  aie::store_v(quad.totals, TimesLanes(aie::load_v<kQuadLanes>(quad.totals), shrink));
  for (unsigned i = 0; i < kHeadDim * kQuad; i += kQuadLanes) {
    aie::store_v(quad.out + i, TimesLanes(aie::load_v<kQuadLanes>(quad.out + i), shrink));
  }
  return reference;
}

template <unsigned kHeadDim>
void AttendQuad(const Quad& quad, const bfloat16* keys, const bfloat16* values, int32 begin) {
  constexpr unsigned kOctets = Scores<kHeadDim>::kOctets;
  const int32 end = begin + static_cast<int32>(AttentionRows(kHeadDim));
  if (SeesNothing(quad, begin, end)) return;
  Scores<kHeadDim> scores(quad, keys);
  if (!SeesAll(quad, begin, end)) scores.Hide(quad, begin);
  const Lanes reference = FollowBest<kHeadDim>(quad, scores.Best());
  const Numbers ones = aie::broadcast<bfloat16, kQuadLanes>(bfloat16(1.0f));
  Sums totals = SumsOf(aie::load_v<kQuadLanes>(quad.totals));
  Numbers weights[kOctets];
  for (unsigned o = 0; o < kOctets; ++o) {
    weights[o] = PowerOfTwo(aie::max(aie::sub(scores.octets[o], reference), kLowestPower));
    totals = aie::mac(totals, weights[o], ones);
  }
  aie::store_v(quad.totals, totals.template to_vector<float>());
  for (unsigned d = 0; d < kHeadDim / kOctet; ++d) {
    float* out = quad.out + d * kQuadLanes;
    Product sums(aie::load_v<kQuadLanes>(out));
    for (unsigned o = 0; o < kOctets; ++o)
      sums.mac(weights[o], aie::load_v<kOctetSquare>(values + (d * kOctets + o) * kOctetSquare));
    aie::store_v(out, sums.template to_vector<float>());
  }
}

const int32* HeaderOf(const int8* tile) { return reinterpret_cast<const int32*>(tile); }

Quad QuadOf(const int8* tile, unsigned head_dim, unsigned index, AttentionProgress* progress,
            float* out) {
  const int32* header = HeaderOf(tile);
  const int32* first = header + kAttentionHeaderWords + index * kQuad;
  const auto* queries =
      reinterpret_cast<const bfloat16*>(header + kAttentionHeaderWords + 2 * kMostAttentionRows);
  return {queries + index * kQuad * head_dim,
          first,
          first + kMostAttentionRows,
          progress->references[index],
          progress->totals[index],
          out + index * kQuad * head_dim};
}

template <unsigned kHeadDim>
void AttendChunk(const int8* tile, const int8* chunk, AttentionProgress* progress, float* out) {
  const auto* keys = reinterpret_cast<const bfloat16*>(chunk);
  const int32 begin = progress->chunk * static_cast<int32>(AttentionRows(kHeadDim));
  for (unsigned i = 0; i < AttentionRows(kHeadDim) / kQuad; ++i)
    AttendQuad<kHeadDim>(QuadOf(tile, kHeadDim, i, progress, out), keys, keys + kAttentionValues,
                         begin);
}

void Begin(const int8* tile, AttentionProgress* progress, float* out) {
  for (unsigned i = 0; i < kMostQuads; ++i) {
    aie::store_v(progress->references[i], EveryLane(kUnseen));
    aie::store_v(progress->totals[i], EveryLane(0.0f));
  }
  for (unsigned i = 0; i < kAttentionValues; i += kQuadLanes) aie::store_v(out + i, EveryLane(0));
  progress->chunk = HeaderOf(tile)[kHeaderFirstChunk];
}

// Divides by the totals, to which a query's largest score gave 1 or more. A query that saw no key
// gets zeros: beside others that did, its total is that of hidden keys.
void End(const int8* tile, AttentionProgress* progress, float* out) {
  const auto head_dim = static_cast<unsigned>(HeaderOf(tile)[kHeaderHeadDim]);
  for (unsigned i = 0; i < AttentionRows(head_dim) / kQuad; ++i) {
    const Quad quad = QuadOf(tile, head_dim, i, progress, out);
    const Lanes scale = OfEachQuery(aie::load_v<kQuadLanes>(quad.totals), [](const auto& lanes) {
      const float total = aie::reduce_add(lanes);
      return total > 0.5f ? aie::inv(total) : 0.0f;
    });
    for (unsigned at = 0; at < head_dim * kQuad; at += kQuadLanes) {
      aie::store_v(quad.out + at, TimesLanes(aie::load_v<kQuadLanes>(quad.out + at), scale));
    }
  }
}

}  // namespace

extern "C" {

// Before a tile's first chunk. A core cuts numbers off as it starts; here they are rounded.
void tandem_attention_begin(const int8* queries, int8* progress, float* out) {
  aie::set_rounding(aie::rounding_mode::conv_even);
  Begin(queries, reinterpret_cast<AttentionProgress*>(progress), out);
}

void tandem_attention_chunk(const int8* queries, const int8* keys_values, int8* progress,
                            float* out) {
  auto* now = reinterpret_cast<AttentionProgress*>(progress);
  if (HeaderOf(queries)[kHeaderHeadDim] == 128) {
    AttendChunk<128>(queries, keys_values, now, out);
  } else {
    AttendChunk<256>(queries, keys_values, now, out);
  }
  ++now->chunk;
}

// Behind the last.
void tandem_attention_end(const int8* queries, int8* progress, float* out) {
  End(queries, reinterpret_cast<AttentionProgress*>(progress), out);
}

}  // extern "C"

}  // namespace tandem::npu
