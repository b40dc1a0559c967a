#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/copy/copy_params.h"
#include "gpu-worker/kernels/copy_rows/copy_rows_params.h"
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

// From a ring's slot to a buffer and back; what stands behind the step's tokens stays.
void CheckCopyRows(KernelRunner& runner, const std::string& kernel) {
  constexpr std::uint32_t kColumns = 520;
  TestStep step;
  step.tokens = {0, 0, 0};
  step.input_base = 2 * kColumns;
  step.output_base = kColumns;
  TestRandom random(9);
  const std::vector<float> from = random.Floats(std::size_t{6} * kColumns);
  for (const auto& [from_base, to_base] : {std::pair{kernels::kBaseInput, kernels::kBaseZero},
                                           {kernels::kBaseZero, kernels::kBaseOutput}}) {
    std::vector<float> expected(std::size_t{6} * kColumns, 7);
    const std::size_t first = from_base == kernels::kBaseInput ? step.input_base : 0;
    const std::size_t to = to_base == kernels::kBaseOutput ? step.output_base : 0;
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(first), std::size_t{3} * kColumns,
                expected.begin() + static_cast<std::ptrdiff_t>(to));
    std::vector<Bytes> bindings = {step.Pack(), ToBytes(from),
                                   ToBytes(std::vector<float>(std::size_t{6} * kColumns, 7))};
    ASSERT_TRUE(runner
                    .Run(kernel, {from_base, to_base}, PushOf(kernels::CopyRowsParams{kColumns}),
                         {2, 4, 1}, &bindings)
                    .ok());
    EXPECT_EQ(FromBytes<float>(bindings[2]), expected);
  }
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

// Rows of logits: random ones with ties, one with a NaN, one that is all alike, one far down.
std::vector<float> TestLogits(std::uint32_t vocab) {
  TestRandom random(6);
  std::vector<float> logits = random.Floats(std::size_t{4} * vocab, -30, 30);
  for (float& logit : logits) logit = std::round(logit * 64) / 64;
  logits[7] = -std::numeric_limits<float>::infinity();
  logits[vocab + 11] = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(logits.begin() + 2 * vocab, vocab, 3.0f);
  for (std::size_t i = 3 * vocab; i < logits.size(); ++i) logits[i] -= 5000;
  return logits;
}

constexpr kernels::CandidatesParams kBlocksOfRows = {1999, 16, 125};

TestStep FourRows() {
  TestStep step;
  step.logit_rows = {0, 0, 0, 0};
  step.inverse_temperatures = {2, 1, 1, 0.5f};
  return step;
}

std::vector<float> BlocksTwin(const std::vector<float>& logits) {
  std::vector<float> blocks;
  const kernels::CandidatesParams& params = kBlocksOfRows;
  for (std::size_t row = 0; row < 4; ++row) {
    for (std::size_t b = 0; b < params.blocks; ++b) {
      const std::size_t begin = row * params.vocab + b * params.block;
      const auto block = std::span(logits).subspan(
          begin, std::min<std::size_t>(params.block, params.vocab - b * params.block));
      float largest = -3.4e38f;
      bool broken = false;
      for (const float logit : block) {
        broken = broken || std::isnan(logit);
        if (!std::isnan(logit)) largest = std::max(largest, logit);
      }
      double sum = 0;
      double scaled = 0;
      for (const float logit : block) {
        if (std::isnan(logit)) continue;
        const auto below = static_cast<double>(logit - largest);
        sum += std::exp(below);
        scaled += std::exp(below * static_cast<double>(FourRows().inverse_temperatures[row]));
      }
      for (const double value : {static_cast<double>(largest), broken ? -1.0 : sum, scaled, 0.0})
        blocks.push_back(static_cast<float>(value));
    }
  }
  return blocks;
}

void CheckLogitBlocks(KernelRunner& runner, const std::string& kernel) {
  const kernels::CandidatesParams& params = kBlocksOfRows;
  const std::vector<float> logits = TestLogits(params.vocab);
  const std::vector<float> expected = BlocksTwin(logits);
  std::vector<Bytes> bindings = {FourRows().Pack(), ToBytes(logits),
                                 Bytes(expected.size() * sizeof(float))};
  ASSERT_TRUE(runner.Run(kernel, {16}, PushOf(params), {params.blocks, 5, 1}, &bindings).ok());
  ExpectNear(FromBytes<float>(bindings[2]), expected, 1e-6, kernel);
}

void CheckCandidates(KernelRunner& runner, const std::string& kernel) {
  const kernels::CandidatesParams& params = kBlocksOfRows;
  const std::vector<float> logits = TestLogits(params.vocab);
  constexpr std::size_t kWords = 4 + 2 * kernels::kMaxCandidates;
  std::vector<Bytes> bindings = {FourRows().Pack(), ToBytes(logits), ToBytes(BlocksTwin(logits)),
                                 Bytes(5 * kWords * sizeof(float))};
  ASSERT_TRUE(runner.Run(kernel, {32}, PushOf(params), {5, 1, 1}, &bindings).ok());
  const auto found = FromBytes<std::uint32_t>(bindings[3]);
  // The NaN, and more equals than there is room for.
  EXPECT_EQ(found[kWords + 2], 0);
  EXPECT_EQ(found[2 * kWords + 2], 0);
  for (const std::size_t row : {0, 3}) {
    const auto of_row = std::span(logits).subspan(row * params.vocab, params.vocab);
    std::vector<std::uint32_t> order(params.vocab);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return of_row[a] > of_row[b]; });
    double sum = 0;
    double scaled = 0;
    for (const float logit : of_row) {
      const auto below = static_cast<double>(logit - of_row[order[0]]);
      sum += std::exp(below);
      scaled += std::exp(below * static_cast<double>(FourRows().inverse_temperatures[row]));
    }
    const auto words = std::span(found).subspan(row * kWords, kWords);
    EXPECT_NEAR(std::bit_cast<float>(words[0]), sum, 1e-4 * sum);
    EXPECT_NEAR(std::bit_cast<float>(words[1]), scaled, 1e-4 * scaled);
    ASSERT_EQ(words[2], kernels::kMaxCandidates);
    for (std::size_t i = 0; i < kernels::kMaxCandidates; ++i) {
      EXPECT_EQ(std::bit_cast<float>(words[4 + 2 * i]), of_row[order[i]]) << "row " << row;
      EXPECT_EQ(words[5 + 2 * i], order[i]) << "row " << row << ", place " << i;
    }
  }
}

}  // namespace

std::map<std::string, KernelTwin> RowTwins() {
  std::map<std::string, KernelTwin> twins = {{"probe", CheckProbe},
                                             {"copy", CheckCopy},
                                             {"copy_rows", CheckCopyRows},
                                             {"logit_blocks", CheckLogitBlocks},
                                             {"candidates", CheckCandidates}};
  for (const char* form : {"", "_q8", "_f16"}) {
    twins[std::string("rms_norm") + form] = CheckRmsNorm;
    twins[std::string("post_norm") + form] = CheckPostNorm;
    twins[std::string("geglu") + form] = CheckGeglu;
  }
  twins["geglu_f16"] = CheckGegluF16;
  return twins;
}

}  // namespace tandem
