#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gpu-worker/kernels/attention/attention_params.h"
#include "gpu-worker/stage/tile_attention.h"
#include "lib/base/strings.h"
#include "tests/unit/gpu-worker/activation_forms.h"
#include "tests/unit/gpu-worker/kernel_twins_attention.h"

namespace tandem {
namespace {

// Of 70 tokens: one alone, a sequence from its beginning, one that goes on far behind, one alone.
TestStep TiledStep(std::size_t window) {
  TestStep step;
  step.tokens.assign(70, 0);
  step.blocks_per_table = 20;
  for (std::int32_t i = 0; i < 60; ++i) step.blocks.push_back(i * 7 % 60);  // scattered
  const auto add = [&step](std::int32_t sequence, std::int32_t position, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) {
      step.positions.push_back(position + i);
      step.sequences.push_back(sequence);
    }
  };
  add(2, 300, 1);
  add(0, 0, 17);
  add(1, 201, 51);
  add(2, 301, 1);
  step.tiles = {1, 17, 18, 32, 50, 19};
  for (std::int32_t i = 0; window != 0 && i < (201 + 1 - static_cast<std::int32_t>(window)) / 16;
       ++i) {
    step.blocks[20 + static_cast<std::size_t>(i)] = -1;  // left behind by the query at 201
  }
  return step;
}

// Results of the tokens of tiles, or of the others. What is not written stays zero.
void CheckTiledStep(KernelRunner& runner, const std::string& kernel, const Heads& shape,
                    std::size_t window, const TileAttentionShape& tiles) {
  TestRandom random(23);
  const KvType type = CacheTypeOf(
      kernel, kernel.starts_with("attention_tile") ? "attention_tile_" : "attention_matrix_");
  const ActivationForm form = kernel.starts_with("attention_matrix") ? ActivationForm::kF16
                              : std::count(kernel.begin(), kernel.end(), '_') == 2
                                  ? ActivationForm::kFloat32
                                  : FormOf(kernel);
  const TestStep step = TiledStep(window);
  const std::size_t tokens = step.tokens.size();
  const std::size_t all = shape.heads + 2 * shape.kv_heads;
  const std::vector<float> qkv = random.Floats(tokens * all * shape.head_dim, -2, 2);
  const std::size_t cache = 60 * shape.kv_heads * kBlock * shape.head_dim;
  std::vector<float> keys = random.Floats(cache);
  std::vector<float> values = random.Floats(cache);
  // Behind the last position anything may stand, in the last block of sequence 0 too.
  for (std::vector<float>* plane : {&keys, &values}) {
    for (std::size_t p = 17; p < 32; ++p) {
      for (std::size_t h = 0; h < shape.kv_heads; ++h) {
        std::fill_n(plane->begin() + static_cast<std::ptrdiff_t>(CacheRow(shape, step, 0, p, h)),
                    shape.head_dim, std::nanf(""));
      }
    }
  }
  const Bytes key_bytes = PackCache(shape, keys, type);
  const Bytes value_bytes = PackCache(shape, values, type);
  keys = UnpackCache(shape, key_bytes, type);
  values = UnpackCache(shape, value_bytes, type);
  const std::size_t row = shape.heads * shape.head_dim;
  const std::size_t pad = 128;
  std::vector<float> expected(pad * row, 0);
  for (std::size_t t = 1; t + 1 < tokens; ++t) {
    for (std::size_t h = 0; h < shape.heads; ++h) {
      const auto out = Attend(shape, step, t, h, qkv, keys, values, window);
      std::copy(out.begin(), out.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(t * row + h * shape.head_dim));
    }
  }
  const kernels::AttentionParams params = {static_cast<std::uint32_t>(window), pad, 0};
  std::vector<Bytes> bindings = {step.Pack(), ToBytes(qkv), key_bytes, value_bytes,
                                 Bytes(pad * row * sizeof(float))};
  const absl::Status run = runner.Run(kernel, tiles.constants, std::as_bytes(std::span(&params, 1)),
                                      {static_cast<std::uint32_t>(shape.heads) / tiles.shared_heads,
                                       5 * kernels::kTileTokens / tiles.tokens, 1},
                                      &bindings);
  ASSERT_TRUE(run.ok()) << run;
  const std::size_t first = form == ActivationForm::kF16 ? pad : tokens;
  const std::vector<float> found = DecodeActivations(form, {first, row, pad}, bindings[4]);
  for (const std::size_t t : {std::size_t{0}, tokens - 1}) {
    for (std::size_t i = 0; i < row; ++i) {
      ASSERT_EQ(found[t * row + i], 0) << kernel << " wrote token " << t;
    }
  }
  // A result is a mean of values up to 1: float16 and 8 bits round it, matrices the weights too.
  const double tolerance = kernel.starts_with("attention_matrix") ? 6e-3
                           : form == ActivationForm::kFloat32     ? 1e-5
                           : form == ActivationForm::kF16         ? 1e-3
                                                                  : 8e-3;
  ExpectNear(std::span(found).first(tokens * row), std::span(expected).first(tokens * row),
             tolerance, kernel);
}

void CheckTileAttention(KernelRunner& runner, const std::string& kernel) {
  const auto run = [&](const Heads& shape, std::size_t window) {
    const TileHeads heads = {static_cast<std::uint32_t>(shape.heads),
                             static_cast<std::uint32_t>(shape.kv_heads),
                             static_cast<std::uint32_t>(shape.head_dim)};
    const vulkan::PhysicalDevice& device = runner.device().physical();
    const bool matrices = kernel.starts_with("attention_matrix");
    const bool lean = kernel.ends_with("_lean");
    if (matrices && kernel.find(Cat("_", shape.head_dim)) == kernel.npos) return;
    if (lean && !MatrixAttentionFits(device, heads, true)) return;
    ASSERT_TRUE(!matrices || MatrixAttentionFits(device, heads, lean));
    CheckTiledStep(runner, kernel, shape, window,
                   matrices ? MatrixAttentionShape(heads) : PlainAttentionShape(heads));
  };
  run({4, 2, 64}, 0);
  run({4, 2, 64}, 100);
  run({2, 1, 128}, 33);
  run({4, 2, 128}, 0);
  run({4, 1, 256}, 0);
  if (kernel.find("matrix") != kernel.npos) run({4, 2, 256}, 100);
  if (kernel == "attention_tile_f32") run({2, 1, 96}, 0);  // lanes are left over
}

}  // namespace

std::map<std::string, KernelTwin> TileAttentionTwins() {
  std::map<std::string, KernelTwin> twins;
  for (const CacheType& cache : kCacheTypes) {
    for (const char* form : {"", "_q8", "_f16"})
      twins[Cat("attention_tile_", cache.name, form)] = CheckTileAttention;
    for (const char* shape : {"_128", "_128_lean", "_256"})
      twins[Cat("attention_matrix_", cache.name, shape)] = CheckTileAttention;
  }
  return twins;
}

}  // namespace tandem
