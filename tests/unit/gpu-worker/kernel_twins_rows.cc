#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "gpu-worker/kernels/candidates/candidates_params.h"
#include "gpu-worker/kernels/copy/copy_params.h"
#include "gpu-worker/kernels/copy_rows/copy_rows_params.h"
#include "gpu-worker/kernels/geglu/geglu_params.h"
#include "gpu-worker/kernels/post_norm/post_norm_params.h"
#include "gpu-worker/kernels/probe/probe_params.h"
#include "gpu-worker/kernels/rms_norm/rms_norm_params.h"
#include "tests/unit/gpu-worker/activation_forms.h"
#include "tests/unit/gpu-worker/kernel_twins.h"
#include "tests/unit/gpu-worker/test_chain.h"

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
        runner.Run(kernel, {64, kernels::kBaseInput, rows, 2}, PushOf(params), {6, 1, 1}, &bindings)
            .ok());
    ExpectActivations(form, shape, count, bindings[3], expected, 1e-6, kernel);
  }
}

void CheckPostNormOf(KernelRunner& runner, const std::string& kernel, std::uint32_t next,
                     std::uint32_t parts) {
  const ActivationForm form = FormOf(TestChain::Base(kernel));
  const std::uint32_t hidden = form == ActivationForm::kFloat32 ? 136 : 256;
  constexpr std::size_t kTokens = 3;
  constexpr std::uint32_t kGroups = 4;
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
  const TestChain chain(kernel);
  chain.Bind(&bindings);
  ASSERT_TRUE(
      runner
          .Run(kernel,
               chain.Constants({32, kernels::kBaseInput, kernels::kBaseOutput, next, parts, 2}),
               chain.Push(PushOf(params)), {kGroups, 1, 1}, &bindings)
          .ok());
  chain.ExpectDone(bindings, kGroups);
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

// Rows of logits: random ones with ties, one with a NaN, one that is all alike, one far down, one
// of -infinity and few numbers, one that rises, one whose best stand side by side, one of many
// equals at the top, some tokens apart.
constexpr std::size_t kLogitRows = 8;
std::vector<float> TestLogits(std::uint32_t vocab) {
  TestRandom random(6);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits = random.Floats(kLogitRows * vocab, -30, 30);
  for (float& logit : logits) logit = std::round(logit * 64) / 64;
  const auto row = [&](std::size_t r) { return std::span(logits).subspan(r * vocab, vocab); };
  row(0)[7] = -kInfinity;
  row(1)[11] = std::numeric_limits<float>::quiet_NaN();
  std::fill(row(2).begin(), row(2).end(), 3.0f);
  for (float& logit : row(3)) logit -= 5000;
  for (std::size_t i = 0; i < vocab; ++i)
    if (i % 61 != 3) row(4)[i] = -kInfinity;
  std::sort(row(5).begin(), row(5).end());
  for (std::size_t i = 0; i < 100; ++i) row(6)[vocab / 2 + i] += 100;
  for (std::size_t i = 3; i < vocab; i += 37) row(7)[i] = 50;
  return logits;
}

TestStep StepOfLogits() {
  TestStep step;
  step.logit_rows.assign(kLogitRows, 0);
  step.inverse_temperatures = {2, 1, 1, 0.5f, 1, 1, 1.5f, 1};
  return step;
}

constexpr float kLowest = -3.4e38f;

// What logit_blocks leaves of a block.
std::vector<float> BlockTwin(std::span<const float> block, double inverse) {
  float largest = kLowest;
  bool broken = false;
  std::vector<float> parts(kernels::kLogitParts, -3.4028234e38f);
  for (std::size_t i = 0; i < block.size(); ++i) {
    broken = broken || std::isnan(block[i]);
    if (!std::isfinite(block[i])) continue;
    largest = std::max(largest, block[i]);
    float& part = parts[i % kernels::kLogitParts];
    part = std::max(part, block[i]);
  }
  double sum = 0;
  double scaled = 0;
  for (const float logit : block) {
    if (!std::isfinite(logit)) continue;
    const auto below = static_cast<double>(logit - largest);
    sum += std::exp(below);
    scaled += std::exp(below * inverse);
  }
  std::vector<float> left = {largest, broken ? -1.0f : static_cast<float>(sum),
                             static_cast<float>(scaled), 0.0f};
  left.insert(left.end(), parts.begin(), parts.end());
  return left;
}

// (rows, blocks, kLogitBlockFloats)
std::vector<float> BlocksTwin(const kernels::CandidatesParams& params,
                              const std::vector<float>& logits) {
  std::vector<float> blocks;
  for (std::size_t row = 0; row < kLogitRows; ++row) {
    const auto inverse = static_cast<double>(StepOfLogits().inverse_temperatures[row]);
    const auto of_row = std::span(logits).subspan(row * params.vocab, params.vocab);
    for (std::size_t begin = 0; begin < params.vocab; begin += params.block) {
      const auto left = BlockTwin(
          of_row.subspan(begin, std::min<std::size_t>(params.block, params.vocab - begin)),
          inverse);
      blocks.insert(blocks.end(), left.begin(), left.end());
    }
  }
  return blocks;
}

// And one row more, which the step does not have.
std::vector<float> WithRow(std::vector<float> rows) {
  rows.resize(rows.size() / kLogitRows * (kLogitRows + 1));
  return rows;
}

// Few blocks; many, of which groups are looked at first; and blocks longer than what lanes hold.
constexpr kernels::CandidatesParams kLogitShapes[] = {
    {1999, 16, 125}, {20011, 48, 417}, {1999, 672, 3}};

void CheckLogitBlocks(KernelRunner& runner, const std::string& kernel) {
  for (const kernels::CandidatesParams& params : kLogitShapes) {
    const std::vector<float> logits = TestLogits(params.vocab);
    const std::vector<float> expected = BlocksTwin(params, logits);
    for (const auto& constants : {std::vector<std::uint32_t>{32, 2}, {64, 9}}) {
      std::vector<Bytes> bindings = {StepOfLogits().Pack(), ToBytes(WithRow(logits)),
                                     Bytes(WithRow(expected).size() * sizeof(float))};
      ASSERT_TRUE(
          runner
              .Run(kernel, constants, PushOf(params), {params.blocks, kLogitRows + 1, 1}, &bindings)
              .ok());
      const auto found = FromBytes<float>(bindings[2]);
      for (std::size_t i = expected.size(); i < found.size(); ++i) ASSERT_EQ(found[i], 0) << i;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const std::size_t at = i % kernels::kLogitBlockFloats;
        const bool sum = at == 1 || at == 2;
        ASSERT_NEAR(found[i], expected[i], sum ? 1e-5 * std::fabs(expected[i]) : 0)
            << "vocabulary of " << params.vocab << ", float " << i;
      }
    }
  }
}

// The row's best tokens, best first; none where more reach the least of its best blocks' largest
// logits than the kernel has room for, or one is no number.
std::vector<std::uint32_t> BestTokens(const kernels::CandidatesParams& params,
                                      std::span<const float> row) {
  constexpr std::size_t kRoom = 512;
  std::vector<std::pair<float, std::uint32_t>> blocks;
  for (std::uint32_t b = 0; b < params.blocks; ++b) {
    const auto block =
        row.subspan(b * params.block, std::min(params.block, params.vocab - b * params.block));
    blocks.emplace_back(-std::max(kLowest, *std::max_element(block.begin(), block.end())), b);
  }
  std::sort(blocks.begin(), blocks.end());
  blocks.resize(std::min<std::size_t>(blocks.size(), kernels::kMaxCandidates));
  std::vector<std::uint32_t> tokens;
  for (const auto& [largest, b] : blocks) {
    for (std::uint32_t t = b * params.block; t < std::min((b + 1) * params.block, params.vocab);
         ++t)
      if (row[t] >= -blocks.back().first) tokens.push_back(t);
  }
  const auto broken = [](float logit) { return std::isnan(logit); };
  if (tokens.size() > kRoom || std::any_of(row.begin(), row.end(), broken)) return {};
  std::sort(tokens.begin(), tokens.end(), [&](std::uint32_t a, std::uint32_t b) {
    return row[a] > row[b] || (row[a] == row[b] && a < b);
  });
  tokens.resize(std::min<std::size_t>(tokens.size(), kernels::kMaxCandidates));
  return tokens;
}

void CheckRowOfCandidates(std::span<const float> of_row, std::span<const std::uint32_t> words,
                          const std::vector<std::uint32_t>& best, double inverse) {
  ASSERT_EQ(words[2], best.size());
  if (best.empty()) return;
  double sum = 0;
  double scaled = 0;
  for (const float logit : of_row) {
    const auto below = static_cast<double>(logit - of_row[best[0]]);
    sum += std::exp(below);
    scaled += std::exp(below * inverse);
  }
  EXPECT_NEAR(std::bit_cast<float>(words[0]), sum, 1e-4 * sum);
  EXPECT_NEAR(std::bit_cast<float>(words[1]), scaled, 1e-4 * scaled);
  for (std::size_t i = 0; i < best.size(); ++i) {
    EXPECT_EQ(std::bit_cast<float>(words[4 + 2 * i]), of_row[best[i]]) << "place " << i;
    EXPECT_EQ(words[5 + 2 * i], best[i]) << "place " << i;
  }
}

void CheckCandidates(KernelRunner& runner, const std::string& kernel) {
  constexpr std::size_t kWords = 4 + 2 * kernels::kMaxCandidates;
  std::size_t usable = 0;
  std::size_t unusable = 0;
  for (const kernels::CandidatesParams& params : kLogitShapes) {
    const std::vector<float> logits = TestLogits(params.vocab);
    for (const std::uint32_t lanes : {32u, 64u}) {
      std::vector<Bytes> bindings = {StepOfLogits().Pack(), ToBytes(WithRow(logits)),
                                     ToBytes(WithRow(BlocksTwin(params, logits))),
                                     Bytes((kLogitRows + 1) * kWords * sizeof(float))};
      ASSERT_TRUE(
          runner.Run(kernel, {lanes}, PushOf(params), {kLogitRows + 1, 1, 1}, &bindings).ok());
      const auto found = FromBytes<std::uint32_t>(bindings[3]);
      for (std::size_t i = kLogitRows * kWords; i < found.size(); ++i) ASSERT_EQ(found[i], 0) << i;
      for (std::size_t row = 0; row < kLogitRows; ++row) {
        SCOPED_TRACE(testing::Message()
                     << "vocabulary of " << params.vocab << ", row " << row << ", lanes " << lanes);
        const auto of_row = std::span(logits).subspan(row * params.vocab, params.vocab);
        const std::vector<std::uint32_t> best = BestTokens(params, of_row);
        ++(best.empty() ? unusable : usable);
        CheckRowOfCandidates(of_row, std::span(found).subspan(row * kWords, kWords), best,
                             static_cast<double>(StepOfLogits().inverse_temperatures[row]));
      }
    }
  }
  EXPECT_GE(usable, 10u);
  EXPECT_GE(unusable, 10u);
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
    for (const char* end : {"", "_chained"})
      twins[std::string("post_norm") + form + end] = CheckPostNorm;
    twins[std::string("geglu") + form] = CheckGeglu;
  }
  twins["geglu_f16"] = CheckGegluF16;
  return twins;
}

}  // namespace tandem
