#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/kernels/decode/decode_params.h"
#include "gpu-worker/kernels/qkv_rope/qkv_rope_params.h"
#include "lib/base/numeric.h"
#include "lib/base/strings.h"
#include "lib/model/kv_layout.h"
#include "tests/unit/gpu-worker/activation_forms.h"
#include "tests/unit/gpu-worker/kernel_twins.h"
#include "tests/unit/gpu-worker/kernel_twins_attention.h"
#include "tests/unit/gpu-worker/test_chain.h"

namespace tandem {
namespace {

// Integers of a row; returns their scale.
float QuantiseRow(std::span<const float> row, std::int8_t* out) {
  float largest = 0;
  for (const float v : row) {
    if (std::isnan(v)) return v;
    largest = std::max(largest, std::abs(v));
  }
  const float inverse = largest > 0 ? 127.0f / largest : 0;
  for (const float v : row) *out++ = static_cast<std::int8_t>(std::nearbyint(v * inverse));
  return largest / 127.0f;
}

}  // namespace

void RoundRow(KvType type, std::span<float> row) {
  std::vector<std::int8_t> integers(row.size());
  const float scale = type == KvType::kInt8 ? QuantiseRow(row, integers.data()) : 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (type == KvType::kFloat16) row[i] = HalfToFloat(FloatToHalf(row[i]));
    if (type == KvType::kInt8) row[i] = scale * integers[i];
  }
}

Bytes PackCache(const Heads& shape, const std::vector<float>& values, KvType type) {
  if (type == KvType::kFloat32) return ToBytes(values);
  if (type == KvType::kFloat16) {
    std::vector<std::uint16_t> halves;
    for (const float value : values) halves.push_back(FloatToHalf(value));
    return ToBytes(halves);
  }
  const auto head_bytes =
      static_cast<std::size_t>(KvHeadBytes(static_cast<std::int64_t>(shape.head_dim), type));
  const std::size_t rows = values.size() / shape.head_dim;
  Bytes bytes(rows / kBlock * head_bytes);
  for (std::size_t r = 0; r < rows; ++r) {
    std::byte* const head = bytes.data() + r / kBlock * head_bytes;
    const float scale =
        QuantiseRow(std::span(values).subspan(r * shape.head_dim, shape.head_dim),
                    reinterpret_cast<std::int8_t*>(head) + r % kBlock * shape.head_dim);
    std::memcpy(head + kBlock * shape.head_dim + r % kBlock * sizeof(float), &scale, sizeof(scale));
  }
  return bytes;
}

std::vector<float> UnpackCache(const Heads& shape, const Bytes& bytes, KvType type) {
  if (type == KvType::kFloat32) return FromBytes<float>(bytes);
  std::vector<float> values;
  if (type == KvType::kFloat16) {
    for (const std::uint16_t value : FromBytes<std::uint16_t>(bytes))
      values.push_back(HalfToFloat(value));
    return values;
  }
  const auto head_bytes =
      static_cast<std::size_t>(KvHeadBytes(static_cast<std::int64_t>(shape.head_dim), type));
  for (std::size_t head = 0; head < bytes.size(); head += head_bytes) {
    for (std::size_t i = 0; i < kBlock * shape.head_dim; ++i) {
      float scale = 0;
      std::memcpy(&scale,
                  &bytes[head + kBlock * shape.head_dim + i / shape.head_dim * sizeof(float)],
                  sizeof(scale));
      values.push_back(scale * static_cast<std::int8_t>(bytes[head + i]));
    }
  }
  return values;
}

KvType CacheTypeOf(const std::string& kernel, const std::string& base) {
  for (const CacheType& cache : kCacheTypes) {
    if (kernel.starts_with(Cat(base, cache.name))) return cache.type;
  }
  ADD_FAILURE() << kernel << " names no type of keys and values";
  return KvType::kFloat32;
}

std::size_t CacheRow(const Heads& shape, const TestStep& step, std::size_t sequence,
                     std::size_t position, std::size_t kv_head) {
  const auto block =
      static_cast<std::size_t>(step.blocks[sequence * step.blocks_per_table + position / kBlock]);
  return ((block * shape.kv_heads + kv_head) * kBlock + position % kBlock) * shape.head_dim;
}

std::vector<float> Attend(const Heads& shape, const TestStep& step, std::size_t t, std::size_t head,
                          const std::vector<float>& qkv, const std::vector<float>& keys,
                          const std::vector<float>& values, std::size_t window) {
  const auto sequence = static_cast<std::size_t>(step.sequences[t]);
  const auto position = static_cast<std::size_t>(step.positions[t]);
  const std::size_t kv_head = head / (shape.heads / shape.kv_heads);
  const std::size_t first = window != 0 && position >= window ? position - window + 1 : 0;
  const float* query = &qkv[(t * (shape.heads + 2 * shape.kv_heads) + head) * shape.head_dim];
  std::vector<double> scores;
  for (std::size_t p = first; p <= position; ++p) {
    const float* key = &keys[CacheRow(shape, step, sequence, p, kv_head)];
    double score = 0;
    for (std::size_t i = 0; i < shape.head_dim; ++i) {
      score += static_cast<double>(query[i]) * static_cast<double>(key[i]);
    }
    scores.push_back(score);
  }
  const double most = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  std::vector<double> sum(shape.head_dim, 0);
  for (std::size_t p = first; p <= position; ++p) {
    const double weight = std::exp(scores[p - first] - most);
    total += weight;
    const float* value = &values[CacheRow(shape, step, sequence, p, kv_head)];
    for (std::size_t i = 0; i < shape.head_dim; ++i)
      sum[i] += weight * static_cast<double>(value[i]);
  }
  std::vector<float> out;
  for (const double value : sum) out.push_back(static_cast<float>(value / total));
  return out;
}

namespace {

constexpr float kEpsilon = 1e-6f;

// Of an attention kernel's results: attention_<cache>_<form> or decode_<cache>_<form>, with or
// without _chained.
ActivationForm ResultForm(const std::string& kernel) {
  return std::count(kernel.begin(), kernel.end(), '_') == 1 ? ActivationForm::kFloat32
                                                            : FormOf(TestChain::Base(kernel));
}

std::vector<float> NormAndTurn(std::span<const float> head, std::span<const float> weight,
                               std::span<const float> frequencies, std::int32_t position,
                               double scale) {
  double squares = 0;
  for (const float value : head) squares += static_cast<double>(value) * static_cast<double>(value);
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(head.size()) + kEpsilon);
  const std::size_t pairs = head.size() / 2;
  std::vector<float> out(head.size());
  for (std::size_t i = 0; i < pairs; ++i) {
    const double a = static_cast<double>(head[i]) * inverse * static_cast<double>(weight[i]);
    const double b =
        static_cast<double>(head[i + pairs]) * inverse * static_cast<double>(weight[i + pairs]);
    // rounded, as the reference's
    const float angle = static_cast<float>(position) * frequencies[i];
    const double c = std::cos(static_cast<double>(angle));
    const double s = std::sin(static_cast<double>(angle));
    out[i] = static_cast<float>((a * c - b * s) * scale);
    out[i + pairs] = static_cast<float>((b * c + a * s) * scale);
  }
  return out;
}

// Far positions: the angle of the first pair is the position itself, in radians.
TestStep FarStep() {
  TestStep step;
  step.tokens = {0, 0, 0, 0};
  step.positions = {0, 17, 131071, 99999};
  step.sequences = {0, 0, 1, 2};
  step.blocks_per_table = 131072 / kBlock;
  step.blocks.assign(3 * step.blocks_per_table, 0);
  step.blocks[1] = 4;
  step.blocks[step.blocks_per_table + 131071 / kBlock] = 2;
  step.blocks[2 * step.blocks_per_table + 99999 / kBlock] = 3;
  return step;
}

void CheckQkvRopeOf(KernelRunner& runner, const std::string& kernel, const Heads& shape,
                    std::uint32_t parts) {
  TestRandom random(21);
  const KvType type = CacheTypeOf(kernel, "qkv_rope_");
  const TestStep step = FarStep();
  const std::size_t all = shape.heads + 2 * shape.kv_heads;
  const std::size_t part = 6 * all * shape.head_dim;
  const std::vector<float> pieces = random.Floats(parts * part, -4, 4);
  std::vector<float> qkv(part, 0);
  for (std::size_t i = 0; i < parts * part; ++i) qkv[i % part] += pieces[i];
  const std::vector<float> query_norm = random.Floats(shape.head_dim, 0.5f, 2);
  const std::vector<float> key_norm = random.Floats(shape.head_dim, 0.5f, 2);
  std::vector<float> frequencies;
  for (std::size_t i = 0; i < shape.head_dim / 2; ++i) {
    frequencies.push_back(static_cast<float>(
        std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim))));
  }
  const std::vector<float> empty(5 * shape.kv_heads * kBlock * shape.head_dim, 0);
  const kernels::QkvRopeParams params = {kEpsilon, 0.25f, 16, static_cast<std::uint32_t>(part)};
  std::vector<std::uint32_t> constants = shape.Constants();
  constants.push_back(parts);
  std::vector<Bytes> bindings = {step.Pack(),
                                 ToBytes(pieces),
                                 ToBytes(query_norm),
                                 ToBytes(key_norm),
                                 ToBytes(frequencies),
                                 PackCache(shape, empty, type),
                                 PackCache(shape, empty, type)};
  ASSERT_TRUE(runner
                  .Run(kernel, constants, std::as_bytes(std::span(&params, 1)),
                       {static_cast<std::uint32_t>(all), 6, 1}, &bindings)
                  .ok());

  std::vector<float> queries = pieces;
  std::vector<float> keys = empty;
  std::vector<float> values = empty;
  for (std::size_t t = 0; t < step.tokens.size(); ++t) {
    const auto sequence = static_cast<std::size_t>(step.sequences[t]);
    const auto position = static_cast<std::size_t>(step.positions[t]);
    for (std::size_t h = 0; h < all; ++h) {
      const std::size_t at = (t * all + h) * shape.head_dim;
      const auto head = std::span(qkv).subspan(at, shape.head_dim);
      const bool query = h < shape.heads;
      const bool value = h >= shape.heads + shape.kv_heads;
      const auto turned = NormAndTurn(head, query ? query_norm : key_norm, frequencies,
                                      step.positions[t], query ? 0.25 : 1.0);
      if (query) {
        std::copy(turned.begin(), turned.end(), queries.begin() + static_cast<std::ptrdiff_t>(at));
        continue;
      }
      const std::size_t row =
          CacheRow(shape, step, sequence, position, (h - shape.heads) % shape.kv_heads);
      std::vector<float>& plane = value ? values : keys;
      for (std::size_t i = 0; i < shape.head_dim; ++i) plane[row + i] = value ? head[i] : turned[i];
      RoundRow(type, std::span(plane).subspan(row, shape.head_dim));
    }
  }
  ExpectNear(FromBytes<float>(bindings[1]), queries, 2e-6, kernel + " queries");
  // The last bits of what is rounded to float16 or int8 differ.
  const double tolerance = type == KvType::kFloat32 ? 2e-6 : 1e-3;
  ExpectNear(UnpackCache(shape, bindings[5], type), keys, tolerance, kernel + " keys");
  ExpectNear(UnpackCache(shape, bindings[6], type), values,
             type == KvType::kFloat32 ? 0 : tolerance, kernel + " values");
}

void CheckQkvRope(KernelRunner& runner, const std::string& kernel) {
  CheckQkvRopeOf(runner, kernel, {3, 1, 256}, 1);
  CheckQkvRopeOf(runner, kernel, {3, 1, 256}, 3);
  CheckQkvRopeOf(runner, kernel, {4, 2, 32}, 1);
}

void CheckAttentionOf(KernelRunner& runner, const std::string& kernel, const Heads& shape,
                      std::size_t window, std::uint32_t parts, std::uint32_t shared) {
  TestRandom random(22);
  const KvType type = CacheTypeOf(kernel, "attention_");
  TestStep step;
  step.tokens = {0, 0, 0, 0};
  step.positions = {0, 63, 64, 150};  // one key, a round, a round and one, several
  step.sequences = {1, 0, 0, 1};
  step.blocks_per_table = 10;
  for (std::int32_t i = 0; i < 20; ++i) step.blocks.push_back(i * 7 % 20);  // scattered
  if (window != 0) step.blocks[10 + 1] = -1;  // left behind by the query at 150
  if (window != 0) step.positions[0] = 140;
  const std::size_t all = shape.heads + 2 * shape.kv_heads;
  const std::vector<float> qkv = random.Floats(5 * all * shape.head_dim, -2, 2);
  const std::size_t cache = 20 * shape.kv_heads * kBlock * shape.head_dim;
  const Bytes key_bytes = PackCache(shape, random.Floats(cache), type);
  const Bytes value_bytes = PackCache(shape, random.Floats(cache), type);
  const std::vector<float> keys = UnpackCache(shape, key_bytes, type);
  const std::vector<float> values = UnpackCache(shape, value_bytes, type);
  const std::size_t row = shape.heads * shape.head_dim;
  std::vector<float> expected(5 * row, 0);
  for (std::size_t t = 0; t < step.tokens.size(); ++t) {
    for (std::size_t h = 0; h < shape.heads; ++h) {
      const auto out = Attend(shape, step, t, h, qkv, keys, values, window);
      std::copy(out.begin(), out.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(t * row + h * shape.head_dim));
    }
  }
  const kernels::AttentionParams params = {static_cast<std::uint32_t>(window), 8, 0};
  std::vector<Bytes> bindings = {step.Pack(), ToBytes(qkv), key_bytes, value_bytes,
                                 Bytes(8 * row * sizeof(float))};
  std::vector<std::uint32_t> constants = shape.Constants();
  constants.insert(constants.begin(), parts * 64);
  constants.push_back(shared);
  ASSERT_TRUE(runner
                  .Run(kernel, constants, std::as_bytes(std::span(&params, 1)),
                       {static_cast<std::uint32_t>(shape.heads) / shared, 5, 1}, &bindings)
                  .ok());
  ExpectActivations(ResultForm(kernel), {5, row, 8}, 4, bindings[4], expected, 1e-5, kernel);
}

void CheckAttention(KernelRunner& runner, const std::string& kernel) {
  CheckAttentionOf(runner, kernel, {4, 1, 256}, 0, 1, 4);
  CheckAttentionOf(runner, kernel, {4, 2, 128}, 33, 2, 2);
  if (ResultForm(kernel) == ActivationForm::kF16) return;  // whole chunks of 128 columns
  CheckAttentionOf(runner, kernel, {2, 2, 32}, 100, 1, 1);
  CheckAttentionOf(runner, kernel, {4, 2, 32}, 0, 8, 1);
  CheckAttentionOf(runner, kernel, {4, 2, 32}, 0, 4, 2);  // more parts than rounds of keys
  CheckAttentionOf(runner, kernel, {2, 1, 96}, 0, 2, 1);  // lanes are left over
}

struct DecodeCase {
  Heads heads;
  std::size_t window;
  std::uint32_t threads;
  std::uint32_t shared_heads;
  std::uint32_t unroll;
  std::uint32_t splits;
  std::uint32_t parts = 1;
};

// A step in which every sequence has one token, its qkv, and what stands in the cache before.
struct DecodeWorld {
  TestStep step;
  std::vector<float> pieces;  // of qkv, in parts
  std::vector<float> qkv;
  std::vector<float> query_norm, key_norm, frequencies;
  Bytes key_bytes, value_bytes;
};

DecodeWorld MakeDecodeWorld(const DecodeCase& shape, KvType type) {
  TestRandom random(23);
  const Heads& heads = shape.heads;
  DecodeWorld world;
  world.step.tokens = {0, 0, 0, 0};
  world.step.positions = {0, 63, 64, 150};
  world.step.sequences = {0, 1, 2, 3};
  world.step.blocks_per_table = 10;
  for (std::int32_t i = 0; i < 40; ++i) world.step.blocks.push_back(i * 7 % 40);  // scattered
  // Left behind by the query at 150.
  if (shape.window != 0) world.step.blocks[3 * 10 + 1] = -1;
  const std::size_t part = 5 * (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
  world.pieces = random.Floats(shape.parts * part, -2, 2);
  world.qkv.assign(part, 0);
  for (std::size_t i = 0; i < world.pieces.size(); ++i) world.qkv[i % part] += world.pieces[i];
  world.query_norm = random.Floats(heads.head_dim, 0.5f, 2);
  world.key_norm = random.Floats(heads.head_dim, 0.5f, 2);
  world.frequencies = random.Floats(heads.head_dim / 2, 0, 1);
  const std::size_t cache = 40 * heads.kv_heads * kBlock * heads.head_dim;
  world.key_bytes = PackCache(heads, random.Floats(cache), type);
  world.value_bytes = PackCache(heads, random.Floats(cache), type);
  return world;
}

// What is attended; keys and values get those of the step.
std::vector<float> DecodeTwin(const DecodeCase& shape, KvType type, DecodeWorld* world,
                              std::vector<float>* keys, std::vector<float>* values) {
  const Heads& heads = shape.heads;
  const std::size_t all = heads.heads + 2 * heads.kv_heads;
  const std::size_t row = heads.heads * heads.head_dim;
  std::vector<float> expected(5 * row, 0);
  for (std::size_t t = 0; t < world->step.tokens.size(); ++t) {
    const std::int32_t position = world->step.positions[t];
    for (std::size_t h = 0; h < heads.heads + heads.kv_heads; ++h) {
      const auto head =
          std::span(world->qkv).subspan((t * all + h) * heads.head_dim, heads.head_dim);
      const bool query = h < heads.heads;
      const std::vector<float> turned =
          NormAndTurn(head, query ? world->query_norm : world->key_norm, world->frequencies,
                      position, query ? 0.25 : 1.0);
      if (query) {
        std::copy(turned.begin(), turned.end(), head.begin());
        continue;
      }
      const std::size_t at =
          CacheRow(heads, world->step, t, static_cast<std::size_t>(position), h - heads.heads);
      const float* value = &world->qkv[(t * all + h + heads.kv_heads) * heads.head_dim];
      for (std::size_t i = 0; i < heads.head_dim; ++i) {
        (*keys)[at + i] = turned[i];
        (*values)[at + i] = value[i];
      }
      for (std::vector<float>* plane : {keys, values})
        RoundRow(type, std::span(*plane).subspan(at, heads.head_dim));
    }
    for (std::size_t h = 0; h < heads.heads; ++h) {
      const auto out = Attend(heads, world->step, t, h, world->qkv, *keys, *values, shape.window);
      std::copy(out.begin(), out.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(t * row + h * heads.head_dim));
    }
  }
  return expected;
}

void CheckDecodeOf(KernelRunner& runner, const std::string& kernel, const DecodeCase& shape) {
  const Heads& heads = shape.heads;
  const KvType type = CacheTypeOf(kernel, "decode_");
  DecodeWorld world = MakeDecodeWorld(shape, type);
  std::vector<float> keys = UnpackCache(heads, world.key_bytes, type);
  std::vector<float> values = UnpackCache(heads, world.value_bytes, type);
  const std::uint32_t subgroup = runner.device().physical().subgroup_size;
  const std::uint32_t lanes =
      std::bit_floor(std::min(subgroup, static_cast<std::uint32_t>(heads.head_dim) / 8));
  const auto groups = static_cast<std::uint32_t>(heads.heads) / shape.shared_heads;
  const kernels::DecodeParams params = {kEpsilon, 0.25f, static_cast<std::uint32_t>(shape.window),
                                        static_cast<std::uint32_t>(world.qkv.size()), 8};
  constexpr std::uint32_t kGroupTokens = 5;
  const std::size_t row = heads.heads * heads.head_dim;
  const Bytes counters((kernels::kFirstDecodeCounter + std::size_t{5} * groups) * 4);
  std::vector<Bytes> bindings = {
      world.step.Pack(),
      ToBytes(world.pieces),
      world.key_bytes,
      world.value_bytes,
      Bytes(8 * row * sizeof(float)),
      ToBytes(world.query_norm),
      ToBytes(world.key_norm),
      ToBytes(world.frequencies),
      Bytes(5 * heads.heads * shape.splits * (heads.head_dim + 4) * sizeof(float)),
      counters};
  const TestChain chain(kernel);
  chain.Bind(&bindings);
  std::vector<std::uint32_t> constants = heads.Constants();
  constants.insert(constants.begin(), std::max(shape.threads, subgroup));
  for (const std::uint32_t constant :
       {shape.shared_heads, subgroup, lanes, shape.unroll, shape.splits, shape.parts}) {
    constants.push_back(constant);
  }
  const absl::Status run = runner.Run(kernel, chain.Constants(constants),
                                      chain.Push(std::as_bytes(std::span(&params, 1))),
                                      {groups, kGroupTokens, shape.splits}, &bindings);
  ASSERT_TRUE(run.ok()) << run;
  // Of each token the last splits, of those that the step has not, too.
  chain.ExpectDone(bindings, groups * kGroupTokens);
  const std::vector<float> expected = DecodeTwin(shape, type, &world, &keys, &values);
  const double tolerance = type == KvType::kFloat32 ? 1e-5 : 1e-3;
  ExpectActivations(ResultForm(kernel), {5, row, 8}, 4, bindings[4], expected, tolerance, kernel);
  ExpectNear(UnpackCache(heads, bindings[2], type), keys, tolerance, kernel + " keys");
  ExpectNear(UnpackCache(heads, bindings[3], type), values, tolerance, kernel + " values");
  EXPECT_EQ(bindings[9], counters) << kernel << " counters";
}

// Small shapes: a software driver compiles this kernel for seconds where it unrolls much.
void CheckDecode(KernelRunner& runner, const std::string& kernel) {
  if (TestChain::IsChained(kernel)) {
    // F16: whole chunks of 128 columns.
    const Heads heads =
        ResultForm(kernel) == ActivationForm::kF16 ? Heads{4, 4, 32} : Heads{2, 2, 32};
    CheckDecodeOf(runner, kernel, {heads, 33, 16, 1, 1, 2});
    return;
  }
  CheckDecodeOf(runner, kernel, {{4, 2, 128}, 33, 16, 2, 1, 4, 3});
  if (ResultForm(kernel) == ActivationForm::kF16) return;  // whole chunks of 128 columns
  CheckDecodeOf(runner, kernel, {{2, 2, 32}, 100, 16, 1, 2, 1});
  CheckDecodeOf(runner, kernel, {{2, 1, 96}, 0, 16, 2, 1, 16});  // lanes left over, idle splits
}

}  // namespace

std::map<std::string, KernelTwin> AttentionTwins() {
  std::map<std::string, KernelTwin> twins;
  for (const CacheType& cache : kCacheTypes) {
    twins[Cat("qkv_rope_", cache.name)] = CheckQkvRope;
    for (const char* form : {"", "_q8", "_f16"}) {
      twins[Cat("decode_", cache.name, form)] = CheckDecode;
      twins[Cat("attention_", cache.name, form)] = CheckAttention;
    }
    for (const char* form : {"_q8", "_f16"})
      twins[Cat("decode_", cache.name, form, "_chained")] = CheckDecode;
  }
  return twins;
}

}  // namespace tandem
