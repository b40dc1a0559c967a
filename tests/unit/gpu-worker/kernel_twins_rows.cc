#include <gtest/gtest.h>

#include <cmath>

#include "gpu-worker/kernels/copy/copy_params.h"
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/probe/probe_params.h"
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "tests/unit/gpu-worker/activation_forms.h"
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
  const ActivationForm form = FormOf(kernel);
  // Odd where the form allows it.
  const std::uint32_t hidden = form == ActivationForm::kFloat32 ? 200 : 384;
  TestRandom random(2);
  const std::vector<float> weight = random.Floats(hidden, 0.5f, 2);
  // A large residual: float16 would overflow here.
  const std::vector<float> x = random.Floats(std::size_t{5} * hidden, -3e5f, 3e5f);
  TestStep step;
  step.tokens = {0, 0, 0, 0};
  step.logit_rows = {1, 3};
  step.input_base = hidden;
  const ActivationShape shape{6, hidden, 8};
  const kernels::RmsNormParams params = {hidden, kEpsilon, 8};
  for (const std::uint32_t rows : {kernels::kRowsAreTokens, kernels::kRowsAreLogits}) {
    std::vector<float> expected(std::size_t{6} * hidden, 0);
    const std::size_t count = rows == kernels::kRowsAreTokens ? 4 : 2;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t token =
          rows == kernels::kRowsAreTokens ? r : static_cast<std::size_t>(step.logit_rows[r]);
      const auto row = RmsNorm(std::span(x).subspan((token + 1) * hidden, hidden), weight);
      std::copy(row.begin(), row.end(), expected.begin() + static_cast<std::ptrdiff_t>(r * hidden));
    }
    std::vector<Bytes> bindings = {step.Pack(), ToBytes(x), ToBytes(weight),
                                   Bytes(std::size_t{8} * hidden * sizeof(float))};
    ASSERT_TRUE(
        runner.Run(kernel, {64, kernels::kBaseInput, rows}, PushOf(params), {6, 1, 1}, &bindings)
            .ok());
    ExpectActivations(form, shape, count, bindings[3], expected, 1e-6, kernel);
  }
}

void CheckPostNormOf(KernelRunner& runner, const std::string& kernel, std::uint32_t next,
                     std::uint32_t parts) {
  const ActivationForm form = FormOf(kernel);
  const std::uint32_t hidden = form == ActivationForm::kFloat32 ? 136 : 256;
  constexpr std::size_t kTokens = 3;
  TestRandom random(3);
  const std::size_t part = std::size_t{4} * hidden + 12;
  const std::vector<float> pieces = random.Floats(parts * part, -7, 7);
  std::vector<float> branch(std::size_t{4} * hidden, 0);
  for (std::size_t p = 0; p < parts; ++p) {
    for (std::size_t i = 0; i < branch.size(); ++i) branch[i] += pieces[p * part + i];
  }
  const std::vector<float> weight = random.Floats(hidden, 0.5f, 2);
  const std::vector<float> next_weight = random.Floats(hidden, 0.5f, 2);
  const std::vector<float> x = random.Floats(std::size_t{6} * hidden, -50, 50);
  TestStep step;
  step.tokens.assign(kTokens, 0);
  step.input_base = hidden;
  step.output_base = 2 * hidden;
  const ActivationShape shape{4, hidden, 16};
  const kernels::PostNormParams params = {hidden, kEpsilon, static_cast<std::uint32_t>(part), 16};
  std::vector<float> residual(std::size_t{6} * hidden, 0);
  std::vector<float> normed(std::size_t{4} * hidden, 0);
  for (std::size_t t = 0; t < kTokens; ++t) {
    const auto row = RmsNorm(std::span(branch).subspan(t * hidden, hidden), weight);
    for (std::size_t i = 0; i < hidden; ++i) {
      residual[(t + 2) * hidden + i] = x[(t + 1) * hidden + i] + row[i];
    }
    if (next == 0) continue;
    const auto after = RmsNorm(std::span(residual).subspan((t + 2) * hidden, hidden), next_weight);
    std::copy(after.begin(), after.end(), normed.begin() + static_cast<std::ptrdiff_t>(t * hidden));
  }
  std::vector<Bytes> bindings = {step.Pack(),
                                 ToBytes(pieces),
                                 ToBytes(weight),
                                 ToBytes(x),
                                 ToBytes(std::vector<float>(std::size_t{6} * hidden, 0)),
                                 ToBytes(next_weight),
                                 Bytes(std::size_t{16} * hidden * sizeof(float))};
  ASSERT_TRUE(runner
                  .Run(kernel, {32, kernels::kBaseInput, kernels::kBaseOutput, next, parts, 2},
                       PushOf(params), {4, 1, 1}, &bindings)
                  .ok());
  ExpectNear(FromBytes<float>(bindings[4]), residual, 1e-6, kernel + " residual");
  ExpectActivations(form, shape, next == 0 ? 0 : kTokens, bindings[6], normed, 1e-6,
                    kernel + " normed");
}

void CheckPostNorm(KernelRunner& runner, const std::string& kernel) {
  CheckPostNormOf(runner, kernel, 0, 1);
  CheckPostNormOf(runner, kernel, 1, 1);
  CheckPostNormOf(runner, kernel, 1, 3);
}

void CheckGeglu(KernelRunner& runner, const std::string& kernel) {
  const ActivationForm form = FormOf(kernel);
  const std::uint32_t ffn = form == ActivationForm::kFloat32 ? 152 : 640;
  TestRandom random(4);
  std::vector<float> gate_up = random.Floats(std::size_t{6} * ffn, -6, 6);
  gate_up[0] = -300;  // where exp overflows
  gate_up[1] = 300;
  gate_up[2] = 0;
  gate_up[ffn + 1] = 1.5f;
  TestStep step;
  step.tokens = {0, 0};
  const float scale = form == ActivationForm::kF16 ? 0.0625f : 1;
  std::vector<float> expected(std::size_t{3} * ffn, 0);
  for (std::size_t i = 0; i < std::size_t{2} * ffn; ++i) {
    const std::size_t at = i / ffn * 2 * ffn + i % ffn;
    const double x = gate_up[at];
    const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
    expected[i] = static_cast<float>(0.5 * x * (1 + std::tanh(u)) *
                                     static_cast<double>(gate_up[at + ffn] * scale));
  }
  const kernels::GegluParams params = {ffn, 8, scale};
  std::vector<Bytes> bindings = {step.Pack(), ToBytes(gate_up),
                                 Bytes(std::size_t{8} * ffn * sizeof(float))};
  ASSERT_TRUE(runner.Run(kernel, {}, PushOf(params), {3, 3, 1}, &bindings).ok());
  const ActivationShape shape{3, ffn, 8};
  const std::vector<float> found = DecodeActivations(form, shape, bindings[2]);
  EXPECT_NEAR(found[1], expected[1], 450 * 1e-3);
  EXPECT_EQ(found[0], 0);
  if (form == ActivationForm::kFloat32) {
    std::vector<float> others = found;
    others[1] = expected[1] = 0;  // else it would hide the others
    ExpectNear(others, expected, 2e-6, kernel);
  } else {
    ExpectActivations(form, shape, 2, bindings[2], expected, 2e-6, kernel);
  }
}

// Products beyond float16 are held at its largest value, not made infinite.
void CheckGegluSaturates(KernelRunner& runner, const std::string& kernel) {
  std::vector<float> gate_up(256, 3000);
  TestStep step;
  step.tokens = {0};
  const kernels::GegluParams params = {128, 8, 0.0625f};
  std::vector<Bytes> bindings = {step.Pack(), ToBytes(gate_up), Bytes(8 * 128 * sizeof(float))};
  ASSERT_TRUE(runner.Run(kernel, {}, PushOf(params), {1, 1, 1}, &bindings).ok());
  for (const float value : DecodeActivations(ActivationForm::kF16, {1, 128, 8}, bindings[2])) {
    ASSERT_EQ(value, 65504.0f);
  }
}

void CheckGegluF16(KernelRunner& runner, const std::string& kernel) {
  CheckGeglu(runner, kernel);
  CheckGegluSaturates(runner, kernel);
}

}  // namespace

std::map<std::string, KernelTwin> RowTwins() {
  std::map<std::string, KernelTwin> twins = {{"probe", CheckProbe}, {"copy", CheckCopy}};
  for (const char* form : {"", "_q8", "_f16"}) {
    twins[std::string("rms_norm") + form] = CheckRmsNorm;
    twins[std::string("post_norm") + form] = CheckPostNorm;
    twins[std::string("geglu") + form] = CheckGeglu;
  }
  twins["geglu_f16"] = CheckGegluF16;
  return twins;
}

}  // namespace tandem
