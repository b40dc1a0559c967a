// Attention of the array in bfloat16: layout, instructions and host-compiled kernels on the model
// of the array, against attention in double over the very numbers in bfloat16, and against the CPU
// device's.
#include "npu-worker/attention/attention_sequence.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lib/base/numeric.h"
#include "lib/device/cpu/kernels.h"
#include "npu-worker/attention/attention_twin.h"
#include "tests/unit/npu-worker/array_call.h"
#include "tests/unit/npu-worker/cpu_twins.h"

namespace tandem::npu {
namespace {

using ::testing::HasSubstr;

// A weight is rounded to bfloat16 (2^-8 of it at most); the errors of many cancel out. What comes
// out is off by 0.0011 of the largest value at worst in these tests, and by 0.0019 where numbers
// are cut off instead of rounded.
constexpr double kTolerance = 0.0015;

struct Inputs {
  AttentionShape shape;
  std::vector<KeyRange> ranges;
  std::vector<float> queries, keys, values;
  float scale = 1;

  std::int64_t query_stride() const { return shape.heads * shape.head_dim; }
  std::int64_t key_stride() const { return shape.kv_heads * shape.head_dim; }
};

// `window` 0: all keys up to the token's own, which is among the last `tokens`.
Inputs Make(const AttentionShape& shape, std::int64_t window, float spread) {
  Inputs in;
  in.shape = shape;
  in.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::int64_t n, float width, std::vector<float>* out) {
    for (std::int64_t i = 0; i < n; ++i) out->push_back(normal(random) * width);
  };
  fill(shape.tokens * in.query_stride(), spread, &in.queries);
  fill(shape.keys * in.key_stride(), 1, &in.keys);
  fill(shape.keys * in.key_stride(), 1, &in.values);
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    const std::int64_t end = shape.keys - shape.tokens + t + 1;
    const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, end - window) : 0;
    in.ranges.push_back({static_cast<std::int32_t>(first), static_cast<std::int32_t>(end)});
  }
  return in;
}

// On the model of the array.
std::vector<float> OnArray(const ArrayShape& array, const Inputs& in) {
  const auto layout = AttentionLayout::Make(array, in.shape);
  EXPECT_TRUE(layout.ok()) << layout.status();
  ArrayCall call({layout->key_value_bytes(), layout->query_bytes(), layout->output_bytes()});
  PackKeysValues(*layout, in.keys.data(), in.values.data(), in.key_stride(), call.buffer(0));
  PackQueries(*layout, in.ranges, in.queries.data(), in.query_stride(), in.scale, call.buffer(1));
  const auto words = AttentionInstructions(*layout, in.ranges);
  EXPECT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(call.Run(array, AttentionDesign(array), *words), "");
  std::vector<float> found(in.queries.size());
  UnpackAttention(*layout, call.buffer(2), found.data(), in.query_stride());
  return found;
}

std::vector<double> Twin(const Inputs& in) {
  return AttentionTwin(in.shape, in.ranges, in.queries.data(), in.keys.data(), in.values.data(),
                       in.scale);
}

double Largest(const std::vector<float>& v) {
  double largest = 0;
  for (const float x : v) largest = std::max(largest, std::abs(double{x}));
  return largest;
}

void ExpectTwin(const ArrayShape& array, const Inputs& in) {
  const std::vector<float> found = OnArray(array, in);
  const std::vector<double> expected = Twin(in);
  const double allowed = kTolerance * Largest(in.values);
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], allowed) << i;
    worst = std::max(worst, std::abs(found[i] - expected[i]));
  }
  testing::Test::RecordProperty("worst", std::to_string(worst / Largest(in.values)));
}

class NpuAttentionTest : public testing::TestWithParam<ArrayShape> {};

// Heads as Gemma 3 has them: 27B (2 to a kv head, of 128), 4B and 12B (2, of 256), 1B (4, of 256);
// chunks that begin, end and lie within what is seen; more tokens than a block has.
TEST_P(NpuAttentionTest, AgreesWithItsTwin) {
  for (const AttentionShape& shape : std::vector<AttentionShape>{{2, 1, 128, 1, 1},
                                                                 {4, 2, 128, 5, 33},
                                                                 {10, 5, 128, 70, 130},
                                                                 {4, 1, 256, 9, 40},
                                                                 {8, 4, 256, 140, 140},
                                                                 {1, 1, 128, 3, 500},
                                                                 {3, 1, 256, 7, 17}}) {
    for (const std::int64_t window : {0, 20}) {
      for (const float spread : {0.2f, 3.0f})
        ExpectTwin(GetParam(), Make(shape, std::min(window, shape.keys), spread));
    }
  }
}

// Scores that rise, fall and jump by more than what float32 has powers of two for.
TEST_P(NpuAttentionTest, ScoresFarApart) {
  for (const float direction : {1.0f, -1.0f}) {
    Inputs in = Make({2, 1, 128, 4, 200}, 0, 1);
    for (std::int64_t k = 0; k < in.shape.keys; ++k) {
      for (std::int64_t d = 0; d < in.shape.head_dim; ++d) {
        in.keys[k * in.key_stride() + d] =
            direction * static_cast<float>(k % 50 == 0 ? k * 7 : k) * 0.1f;
      }
    }
    std::fill(in.queries.begin(), in.queries.end(), 1.0f);
    ExpectTwin(GetParam(), in);
  }
}

// The sums of a query that sees only its window hold nothing of the keys before and behind it,
// which others of its instruction see.
TEST_P(NpuAttentionTest, NothingOfHiddenKeys) {
  Inputs in = Make({1, 1, 128, 4, 96}, 0, 1);
  in.ranges = {{0, 96}, {40, 50}, {95, 96}, {0, 1}};
  for (std::int64_t k = 0; k < in.shape.keys; ++k) {
    if (k >= 40 && k < 50) continue;
    std::fill_n(in.values.begin() + k * in.key_stride(), in.shape.head_dim, 1e6f);
  }
  const std::vector<float> found = OnArray(GetParam(), in);
  for (std::int64_t d = 0; d < in.shape.head_dim; ++d) {
    EXPECT_LT(std::abs(found[in.query_stride() + d]), 10.0f);
    EXPECT_NEAR(found[2 * in.query_stride() + d], 1e6f, 5e3f);
    EXPECT_NEAR(found[3 * in.query_stride() + d], 1e6f, 5e3f);
  }
}

// A token that sees no key at all gets zeros, and spoils nothing.
TEST_P(NpuAttentionTest, ATokenThatSeesNothing) {
  Inputs in = Make({2, 1, 256, 6, 6}, 0, 1);
  in.ranges[2] = {};
  const std::vector<float> found = OnArray(GetParam(), in);
  for (std::int64_t i = 0; i < in.query_stride(); ++i)
    EXPECT_EQ(found[2 * in.query_stride() + i], 0);
  ExpectTwin(GetParam(), in);
}

// Of float32 inputs: what bfloat16 costs in all, against the CPU device.
TEST_P(NpuAttentionTest, NearTheCpuDevice) {
  const Inputs in = Make({1, 1, 128, 1, 100}, 0, 1);
  const std::vector<float> found = OnArray(GetParam(), in);
  const std::int64_t dim = in.shape.head_dim;
  const auto blocks = static_cast<std::int32_t>(CeilDiv(in.shape.keys, kKvBlockTokens));
  std::vector<float> keys = in.keys, values = in.values, query = in.queries;
  keys.resize(static_cast<std::size_t>(blocks * kKvBlockTokens * dim));
  values.resize(keys.size());
  for (float& q : query) q *= in.scale;
  const std::vector<float> cpu =
      AttendOnCpu(query.data(), keys.data(), values.data(), static_cast<int>(dim),
                  static_cast<int>(in.shape.keys) - 1);
  for (std::int64_t d = 0; d < dim; ++d)
    EXPECT_NEAR(found[d], cpu[d], 0.01 * Largest(in.values)) << d;
}

INSTANTIATE_TEST_SUITE_P(Generations, NpuAttentionTest, testing::Values(kAie2Array, kAie2pArray),
                         [](const auto& info) {
                           return info.param == kAie2Array ? "Aie2" : "Aie2p";
                         });

TEST(NpuAttentionLayoutTest, RefusesWhatHasNoKernel) {
  const std::pair<AttentionShape, const char*> cases[] = {
      {{2, 1, 64, 1, 1}, "expected heads of 128 or 256, found 64"},
      {{3, 2, 128, 1, 1}, "expected heads a multiple of kv heads"},
      {{0, 0, 128, 1, 1}, "expected heads a multiple of kv heads"},
      {{33, 1, 128, 1, 1}, "at most 32 of them to one, found 33 and 1"},
      {{17, 1, 256, 1, 1}, "at most 16 of them to one"},
      {{2, 1, 128, 0, 1}, "tokens and keys, found 0 and 1"},
      {{2, 1, 128, 1, std::int64_t{1} << 25}, "tokens and keys"}};
  for (const auto& [shape, message] : cases) {
    const auto layout = AttentionLayout::Make(kAie2Array, shape);
    EXPECT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(layout.status().message()), HasSubstr(message));
  }
}

TEST(NpuAttentionLayoutTest, ABlockHasTheChunksThatItsTokensSee) {
  // 16 tokens a tile, 64 a block.
  const auto layout = AttentionLayout::Make(kAie2Array, {2, 1, 128, 70, 1000});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->token_blocks(), 2U);
  std::vector<KeyRange> ranges(70, {100, 200});
  ranges[65] = {320, 321};
  ranges[66] = {};
  EXPECT_EQ(ChunksOf(*layout, ranges, 0).first, 3U);
  EXPECT_EQ(ChunksOf(*layout, ranges, 0).end, 7U);
  EXPECT_EQ(ChunksOf(*layout, ranges, 1).first, 3U);
  EXPECT_EQ(ChunksOf(*layout, ranges, 1).end, 11U);
  EXPECT_EQ(ChunksOf(*layout, std::vector<KeyRange>(70), 1).end, 0U);
}

TEST(NpuAttentionLayoutTest, BuffersPastAnAddressPatchAreRefused) {
  const auto layout = AttentionLayout::Make(kAie2Array, {16, 16, 128, 1, 1 << 20});
  ASSERT_TRUE(layout.ok());
  const std::vector<KeyRange> ranges(1, {0, 1});
  EXPECT_EQ(AttentionInstructions(*layout, ranges).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// Queries that were packed for other keys than the instructions stream leave cores waiting.
TEST(NpuAttentionLayoutTest, OtherRangesThanTheInstructionsHang) {
  const auto layout = AttentionLayout::Make(kAie2Array, {1, 1, 128, 1, 64});
  ASSERT_TRUE(layout.ok());
  ArrayCall call({layout->key_value_bytes(), layout->query_bytes(), layout->output_bytes()});
  const std::vector<float> zeros(64 * 128);
  PackKeysValues(*layout, zeros.data(), zeros.data(), 128, call.buffer(0));
  const std::vector<KeyRange> two_chunks(1, {0, 64}), one_chunk(1, {0, 1});
  PackQueries(*layout, two_chunks, zeros.data(), 128, 1, call.buffer(1));
  const auto words = AttentionInstructions(*layout, one_chunk);
  ASSERT_TRUE(words.ok());
  EXPECT_THAT(call.Run(kAie2Array, AttentionDesign(kAie2Array), *words),
              HasSubstr("a wait that never ends"));
}

// The memory that the design takes is what attention_shape.h says.
TEST(NpuAttentionLayoutTest, Budgets) {
  EXPECT_EQ(kAttentionCoreBytes, 61824U);
  EXPECT_EQ(AttentionMemoryTileBytes(kAie2Array), 231936U);
  EXPECT_EQ(AttentionMemoryTileBytes(kAie2pArray), 231936U);
}

}  // namespace
}  // namespace tandem::npu
