#include <gtest/gtest.h>

#include <cmath>

#include "gpu-worker/kernels/copy/copy_params.h"
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/probe/probe_params.h"
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "tests/unit/gpu-worker/kernel_twins.h"

namespace tandem {
namespace {

constexpr float kEpsilon = 1e-6f;

template <typename T>
std::span<const std::byte> PushOf(const T& params) {
  return std::as_bytes(std::span(&params, 1));
}

std::vector<float> RmsNorm(std::span<const float> x, std::span<const float> weight) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + kEpsilon);
  std::vector<float> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    out.push_back(
        static_cast<float>(static_cast<double>(x[i]) * inverse * static_cast<double>(weight[i])));
  }
  return out;
}

void CheckProbe(KernelRunner& runner, const std::string& kernel) {
  TestRandom random(1);
  std::vector<std::uint32_t> numbers(64);
  std::uint32_t sum = 0;
  for (std::uint32_t& number : numbers) {
    number = static_cast<std::uint32_t>(random.Integer(0, 1 << 30));
    sum += number;
  }
  const kernels::ProbeParams params = {99};
  std::vector<Bytes> bindings = {ToBytes(numbers)};
  ASSERT_TRUE(runner.Run(kernel, {}, PushOf(params), {1, 1, 1}, &bindings).ok());
  const auto found = FromBytes<std::uint32_t>(bindings[0]);
  for (std::uint32_t i = 0; i < 64; ++i) EXPECT_EQ(found[i], sum * (i + 1) + 99);
}

void CheckCopy(KernelRunner& runner, const std::string& kernel) {
  TestRandom random(5);
  const std::vector<float> from = random.Floats(4 * 1200);
  std::vector<float> expected(4 * 1200, 0);
  std::copy_n(from.begin(), 4 * 1111, expected.begin());
  const kernels::CopyParams params = {1111};
  std::vector<Bytes> bindings = {ToBytes(from), ToBytes(std::vector<float>(4 * 1200, 0))};
  ASSERT_TRUE(runner.Run(kernel, {}, PushOf(params), {2, 2, 1}, &bindings).ok());
  EXPECT_EQ(FromBytes<float>(bindings[1]), expected);
}

void CheckRmsNorm(KernelRunner& runner, const std::string& kernel) {
  constexpr std::size_t kHidden = 200;
  TestRandom random(2);
  const std::vector<float> weight = random.Floats(kHidden, 0.5f, 2);
  // A large residual: float16 would overflow here.
  const std::vector<float> x = random.Floats(5 * kHidden, -3e5f, 3e5f);
  TestStep step;
  step.tokens = {0, 0, 0, 0};
  step.logit_rows = {1, 3};
  step.input_base = kHidden;
  const kernels::RmsNormParams params = {kHidden, kEpsilon};
  for (const std::uint32_t rows : {kernels::kRowsAreTokens, kernels::kRowsAreLogits}) {
    std::vector<float> expected(6 * kHidden, 0);
    const std::size_t count = rows == kernels::kRowsAreTokens ? 4 : 2;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t token =
          rows == kernels::kRowsAreTokens ? r : static_cast<std::size_t>(step.logit_rows[r]);
      const auto row = RmsNorm(std::span(x).subspan((token + 1) * kHidden, kHidden), weight);
      std::copy(row.begin(), row.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(r * kHidden));
    }
    std::vector<Bytes> bindings = {step.Pack(), ToBytes(x), ToBytes(weight),
                                   ToBytes(std::vector<float>(6 * kHidden, 0))};
    ASSERT_TRUE(
        runner.Run(kernel, {64, kernels::kBaseInput, rows}, PushOf(params), {6, 1, 1}, &bindings)
            .ok());
    ExpectNear(FromBytes<float>(bindings[3]), expected, 1e-6, kernel);
  }
}

void CheckPostNorm(KernelRunner& runner, const std::string& kernel) {
  constexpr std::size_t kHidden = 136;
  constexpr std::size_t kTokens = 3;
  TestRandom random(3);
  const std::vector<float> branch = random.Floats(4 * kHidden, -7, 7);
  const std::vector<float> weight = random.Floats(kHidden, 0.5f, 2);
  const std::vector<float> next_weight = random.Floats(kHidden, 0.5f, 2);
  const std::vector<float> x = random.Floats(6 * kHidden, -50, 50);
  TestStep step;
  step.tokens.assign(kTokens, 0);
  step.input_base = kHidden;
  step.output_base = 2 * kHidden;
  const kernels::PostNormParams params = {kHidden, kEpsilon};
  for (const std::uint32_t next : {0u, 1u}) {
    std::vector<float> residual(6 * kHidden, 0);
    std::vector<float> normed(4 * kHidden, 0);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto row = RmsNorm(std::span(branch).subspan(t * kHidden, kHidden), weight);
      for (std::size_t i = 0; i < kHidden; ++i) {
        residual[(t + 2) * kHidden + i] = x[(t + 1) * kHidden + i] + row[i];
      }
      if (next == 0) continue;
      const auto after =
          RmsNorm(std::span(residual).subspan((t + 2) * kHidden, kHidden), next_weight);
      std::copy(after.begin(), after.end(),
                normed.begin() + static_cast<std::ptrdiff_t>(t * kHidden));
    }
    std::vector<Bytes> bindings = {step.Pack(),
                                   ToBytes(branch),
                                   ToBytes(weight),
                                   ToBytes(x),
                                   ToBytes(std::vector<float>(6 * kHidden, 0)),
                                   ToBytes(next_weight),
                                   ToBytes(std::vector<float>(4 * kHidden, 0))};
    ASSERT_TRUE(runner
                    .Run(kernel, {32, kernels::kBaseInput, kernels::kBaseOutput, next},
                         PushOf(params), {4, 1, 1}, &bindings)
                    .ok());
    ExpectNear(FromBytes<float>(bindings[4]), residual, 1e-6, kernel + " residual");
    ExpectNear(FromBytes<float>(bindings[6]), normed, 1e-6, kernel + " normed");
  }
}

void CheckGeglu(KernelRunner& runner, const std::string& kernel) {
  constexpr std::size_t kFfn = 150;
  TestRandom random(4);
  std::vector<float> gate = random.Floats(3 * kFfn, -6, 6);
  gate[0] = -300;  // where exp overflows
  gate[1] = 300;
  gate[2] = 0;
  const std::vector<float> up = random.Floats(3 * kFfn, -2, 2);
  TestStep step;
  step.tokens = {0, 0};
  std::vector<float> expected = gate;
  for (std::size_t i = 0; i < 2 * kFfn; ++i) {
    const double x = gate[i];
    const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
    expected[i] = static_cast<float>(0.5 * x * (1 + std::tanh(u)) * static_cast<double>(up[i]));
  }
  const kernels::GegluParams params = {kFfn};
  std::vector<Bytes> bindings = {step.Pack(), ToBytes(gate), ToBytes(up)};
  ASSERT_TRUE(runner.Run(kernel, {}, PushOf(params), {2, 3, 1}, &bindings).ok());
  std::vector<float> found = FromBytes<float>(bindings[0 + 1]);
  EXPECT_NEAR(found[1], expected[1], 1e-3);
  EXPECT_EQ(found[0], 0);
  found[1] = expected[1] = 0;  // else it would hide the others
  ExpectNear(found, expected, 2e-6, kernel);
}

}  // namespace

std::map<std::string, KernelTwin> RowTwins() {
  return {{"probe", CheckProbe},
          {"copy", CheckCopy},
          {"rms_norm", CheckRmsNorm},
          {"post_norm", CheckPostNorm},
          {"geglu", CheckGeglu}};
}

}  // namespace tandem
