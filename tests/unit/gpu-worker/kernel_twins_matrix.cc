#include <gtest/gtest.h>

#include <algorithm>

#include "gpu-worker/kernels/embed/embed_params.h"
#include "gpu-worker/kernels/matrix/matrix_map.h"
#include "gpu-worker/kernels/matvec/matmul_params.h"
#include "lib/base/numeric.h"
#include "tests/unit/gpu-worker/kernel_twins.h"
#include "tests/unit/gpu-worker/test_matrix.h"

namespace tandem {
namespace {

constexpr float kPoison = 1234.5f;  // what stands in an output before

struct ProductCase {
  std::int64_t rows;
  std::int64_t cols;
  std::int32_t tokens;  // of the step
  std::uint32_t bucket;
};

// y = matrix * x, with masked tokens and a place in wider rows.
void CheckProduct(KernelRunner& runner, const std::string& kernel,
                  const std::vector<std::uint32_t>& constants, vulkan::Groups groups,
                  const ProductCase& shape) {
  TestRandom random(7);
  const TestMatrix matrix = RandomMatrix(WeightFormatOf(kernel), shape.rows, shape.cols, &random);
  const auto cols = static_cast<std::size_t>(shape.cols);
  const std::vector<float> x = random.Floats(shape.bucket * cols);
  const std::size_t stride = static_cast<std::size_t>(shape.rows) + 5;
  const std::vector<float> poisoned(shape.bucket * stride, kPoison);
  const kernels::MatmulParams params = {static_cast<std::uint32_t>(shape.rows),
                                        static_cast<std::uint32_t>(shape.cols),
                                        static_cast<std::uint32_t>(stride), 3};
  std::vector<Bytes> bindings = {StepOf(shape.tokens).Pack(), matrix.values, ToBytes(x),
                                 ToBytes(poisoned)};
  if (!matrix.scales.empty()) bindings.push_back(matrix.scales);
  ASSERT_TRUE(
      runner.Run(kernel, constants, std::as_bytes(std::span(&params, 1)), groups, &bindings).ok());

  std::vector<float> expected = poisoned;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    const std::vector<float> weights = matrix.Row(row);
    for (std::size_t t = 0; t < static_cast<std::size_t>(shape.tokens); ++t) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        sum += static_cast<double>(weights[c]) * static_cast<double>(x[t * cols + c]);
      }
      expected[t * stride + 3 + static_cast<std::size_t>(row)] = static_cast<float>(sum);
    }
  }
  std::vector<float> found = FromBytes<float>(bindings[3]);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (expected[i] == kPoison) {
      ASSERT_EQ(found[i], kPoison) << kernel << " wrote outside, at " << i;
      expected[i] = found[i] = 0;
    }
  }
  ExpectNear(found, expected, 1e-5, kernel);
}

void CheckMatvec(KernelRunner& runner, const std::string& kernel) {
  for (const std::uint32_t tokens : {1u, 2u, 4u, 8u}) {
    // A tile of eight vectors for 32 lanes would be more shared memory than there may be.
    for (const std::uint32_t lanes : {8u, tokens == 8 ? 16u : 32u}) {
      const std::uint32_t rows_per_lane = tokens == 8 ? 2 : 4;
      const std::int64_t rows = 37;
      const std::uint32_t per_group = 32 / lanes * rows_per_lane;
      const auto groups = static_cast<std::uint32_t>(CeilDiv(37, per_group));
      // A grid of two dimensions with groups to spare.
      // The whole row in one tile of columns, no tile, or many tiles and a short one.
      const std::uint32_t tile = tokens == 2 ? 64 : (tokens == 4 ? 0 : lanes);
      CheckProduct(runner, kernel,
                   {32, lanes, rows_per_lane, tokens, kernels::kRowsAreLogits, tile},
                   {2, (groups + 1) / 2, 1},
                   {rows, 352, static_cast<std::int32_t>(tokens == 8 ? 5 : tokens), tokens});
    }
  }
}

void CheckMatmat(KernelRunner& runner, const std::string& kernel) {
  CheckProduct(runner, kernel, {kernels::kRowsAreTokens, 4}, {2, 2, 1}, {100, 352, 41, 64});
  CheckProduct(runner, kernel, {kernels::kRowsAreLogits, 2}, {2, 1, 1}, {64, 32, 16, 16});
  CheckProduct(runner, kernel, {kernels::kRowsAreTokens, 1}, {3, 1, 1}, {37, 96, 9, 16});
}

void CheckEmbed(KernelRunner& runner, const std::string& kernel) {
  TestRandom random(11);
  const TestMatrix matrix = RandomMatrix(WeightFormatOf(kernel), 20, 96, &random);
  TestStep step;
  step.tokens = {119, 100, 99, 120, 107};  // the chunk holds 100 to 119
  step.output_base = 96;
  const kernels::EmbedParams params = {100, 20, 96, 9.5f};
  const std::vector<float> poisoned(7 * 96, kPoison);
  std::vector<Bytes> bindings = {step.Pack(), matrix.values, ToBytes(poisoned)};
  if (!matrix.scales.empty()) bindings.push_back(matrix.scales);
  ASSERT_TRUE(runner
                  .Run(kernel, {kernels::kBaseOutput}, std::as_bytes(std::span(&params, 1)),
                       {8, 1, 1}, &bindings)
                  .ok());
  std::vector<float> expected = poisoned;
  for (std::size_t t = 0; t < step.tokens.size(); ++t) {
    const std::int64_t row = step.tokens[t] - 100;
    if (row < 0 || row >= 20) continue;
    const std::vector<float> weights = matrix.Row(row);
    for (std::size_t c = 0; c < 96; ++c) expected[96 + t * 96 + c] = weights[c] * 9.5f;
  }
  ExpectNear(FromBytes<float>(bindings[2]), expected, 1e-7, kernel);
}

// The map of elements to lanes for which matrix.comp is written; drivers whose map differs do not
// get it (see MatrixMapIsKnown), so a difference here is a failure only where the vendor's is
// known.
void CheckMatrixMap(KernelRunner& runner, const std::string& kernel) {
  const bool wide = kernel.ends_with("16");
  constexpr std::uint32_t kSlots = kernels::kFragmentSlots;
  std::vector<Bytes> bindings = {Bytes(32 * 2 * kSlots * 4)};
  ASSERT_TRUE(runner.Run(kernel, {}, {}, {1, 1, 1}, &bindings).ok());
  const auto found = FromBytes<std::uint32_t>(bindings[0]);
  std::vector<bool> seen_a(256, false);
  std::vector<bool> seen_b(wide ? 256 : 128, false);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == ~0u) continue;
    std::vector<bool>& seen = i / kSlots % 2 == 0 ? seen_a : seen_b;
    ASSERT_LT(found[i], seen.size());
    seen[found[i]] = true;
  }
  EXPECT_EQ(std::count(seen_a.begin(), seen_a.end(), false), 0);
  EXPECT_EQ(std::count(seen_b.begin(), seen_b.end(), false), 0);
}

}  // namespace

std::map<std::string, KernelTwin> MatrixTwins() {
  std::map<std::string, KernelTwin> twins = {{"matrix_map_8", CheckMatrixMap},
                                             {"matrix_map_16", CheckMatrixMap}};
  for (const char* format : {"bf16", "int8", "int4"}) {
    twins[std::string("embed_") + format] = CheckEmbed;
    twins[std::string("matvec_") + format] = CheckMatvec;
    twins[std::string("matmat_") + format] = CheckMatmat;
  }
  return twins;
}

}  // namespace tandem
