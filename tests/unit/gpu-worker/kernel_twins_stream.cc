#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "gpu-worker/kernels/probe/probe_params.h"
#include "lib/base/numeric.h"
#include "tests/unit/gpu-worker/kernel_twins_product.h"
#include "tests/unit/gpu-worker/test_chain.h"

namespace tandem {
namespace {

// Specialisation constants of stream.comp on the device. Lanes of chained kernels hold their
// columns where they share rows.
std::vector<std::uint32_t> StreamConstants(const KernelRunner& runner, const std::string& kernel,
                                           const kernels::ProductParams& params,
                                           std::uint32_t parts, std::uint32_t workgroups) {
  const bool geglu = TestChain::Base(kernel).ends_with("_geglu");
  const vulkan::PhysicalDevice& physical = runner.device().physical();
  const std::uint32_t subgroup =
      physical.required_subgroup != 0 ? physical.required_subgroup : physical.subgroup_size;
  const std::uint32_t threads = 4 * subgroup;
  const std::uint32_t unit = geglu ? 32 : 1;
  const std::uint64_t units = (geglu ? params.second_row : params.rows) / unit;
  const auto ceil = [](std::uint64_t n, std::uint64_t d) {
    return static_cast<std::uint32_t>(CeilDiv(n, d));
  };
  std::vector<std::uint32_t> constants = {threads,
                                          subgroup,
                                          params.groups,
                                          parts,
                                          ceil(params.groups / parts, subgroup),
                                          ceil(units, workgroups) * unit * (geglu ? 2 : 1),
                                          ceil(params.groups * 8, threads),
                                          kernels::kBaseInput,
                                          kernels::kBaseOutput};
  const std::uint32_t more = parts > 1 ? 1 : 0;
  if (TestChain::IsChained(kernel)) constants.insert(constants.end(), {more, more});
  return constants;
}

// What stands around the rows is compared in bits.
void ExpectRows(const kernels::ProductParams& params, const Bytes& output,
                const std::vector<double>& y, double tolerance, const std::string& what) {
  std::vector<float> found = FromBytes<float>(output);
  const auto first = found.begin() + params.output_offset;
  const std::vector<float> rows(first, first + params.rows);
  ExpectNear(rows, std::vector<float>(y.begin(), y.end()), tolerance, what);
  std::fill_n(first, params.rows, kPoison);
  EXPECT_EQ(found, std::vector<float>(found.size(), kPoison)) << what << " wrote outside";
}

// One dispatch of stream.comp; the words of a chain are added to `bindings` where it is chained.
void RunStream(KernelRunner& runner, const std::string& kernel,
               const kernels::ProductParams& params, std::uint32_t parts, std::uint32_t workgroups,
               std::vector<Bytes>* bindings) {
  const TestChain chain(kernel);
  chain.Bind(bindings);
  const absl::Status run =
      runner.Run(kernel, StreamConstants(runner, kernel, params, parts, workgroups),
                 chain.Push(std::as_bytes(std::span(&params, 1))), {workgroups, 1, 1}, bindings);
  ASSERT_TRUE(run.ok()) << run;
  chain.ExpectDone(*bindings, workgroups);
}

// The norm's weights are up to `largest`.
void CheckStreamOf(KernelRunner& runner, const std::string& kernel, const ProductCase& shape,
                   std::uint32_t parts, std::uint32_t workgroups, float largest) {
  constexpr ActivationForm kForm = ActivationForm::kQ8;
  // An activation that lies between two roundings may take the other one.
  constexpr double kTolerance = 2e-3;
  const bool geglu = TestChain::Base(kernel).ends_with("_geglu");
  TestRandom random(10);
  Planes planes = MakePlanes(kernel, shape, &random);
  kernels::ProductParams& params = planes.params;
  params.part_stride = std::bit_cast<std::uint32_t>(HalfEnd::kEpsilon);
  const auto cols = static_cast<std::size_t>(shape.cols);
  const std::vector<float> branch = random.Floats(cols, -3, 3);
  const HalfEnd end = EndHalf({branch.begin(), branch.end()}, largest, &random);
  const ActivationShape layout{1, cols, 1};
  const std::vector<double> y =
      Multiply(planes, kForm, shape,
               DecodeActivations(kForm, layout, EncodeActivations(kForm, layout, end.normed)));
  TestStep step = StepOf(1);
  step.input_base = static_cast<std::uint32_t>(cols);
  step.output_base = static_cast<std::uint32_t>(2 * cols);
  const std::size_t outputs = geglu ? params.second_row : params.output_stride;
  const std::vector<float> poisoned(outputs, kPoison);
  std::vector<Bytes> bindings = {step.Pack(),
                                 planes.memory,
                                 ToBytes(branch),
                                 geglu ? Bytes(outputs * sizeof(float)) : ToBytes(poisoned),
                                 planes.memory,
                                 ToBytes(end.weight),
                                 ToBytes(end.x),
                                 ToBytes(std::vector<float>(3 * cols, kPoison)),
                                 ToBytes(end.next_weight)};
  RunStream(runner, kernel, params, parts, workgroups, &bindings);
  if (testing::Test::HasFatalFailure()) return;
  std::vector<float> residual(2 * cols, kPoison);
  residual.insert(residual.end(), end.residual.begin(), end.residual.end());
  ExpectNear(FromBytes<float>(bindings[7]), residual, 1e-6, kernel + " residual");
  if (geglu) {
    std::vector<float> expected;
    for (std::size_t c = 0; c < outputs; ++c)
      expected.push_back(static_cast<float>(Geglu(y[c], y[outputs + c])));
    ExpectActivations(kForm, {1, outputs, 1}, 1, bindings[3], expected, kTolerance, kernel);
    return;
  }
  ExpectRows(params, bindings[3], y, kTolerance, kernel);
}

void CheckStream(KernelRunner& runner, const std::string& kernel) {
  if (kernel.ends_with("_geglu_chained")) {
    CheckStreamOf(runner, kernel, {{64, 64}, 384, 1, 1, 1}, 2, 3, 0.02f);
    return;
  }
  if (TestChain::IsChained(kernel)) {
    CheckStreamOf(runner, kernel, {{37, 6, 11}, 384, 1, 1, 1}, 2, 4, 2);
    return;
  }
  if (kernel.ends_with("_geglu")) {
    CheckStreamOf(runner, kernel, {{96, 96}, 160, 1, 1, 1}, 1, 2, 0.02f);
    CheckStreamOf(runner, kernel, {{64, 64}, 384, 1, 1, 1}, 2, 1, 0.02f);
    return;
  }
  // Rows that no number of workgroups divides; more workgroups than rows.
  CheckStreamOf(runner, kernel, {{37, 6, 11}, 384, 1, 1, 1}, 1, 5, 2);
  CheckStreamOf(runner, kernel, {{37, 6, 11}, 384, 1, 1, 1}, 2, 4, 2);
  CheckStreamOf(runner, kernel, {{3}, 160, 1, 1, 1}, 1, 7, 2);
  CheckStreamOf(runner, kernel, {{40}, 1024, 1, 1, 1}, 4, 3, 2);
}

// 8-bit activations come from memory.
void CheckPlainOf(KernelRunner& runner, const std::string& kernel, const ProductCase& shape,
                  std::uint32_t parts, std::uint32_t workgroups) {
  constexpr ActivationForm kForm = ActivationForm::kQ8;
  TestRandom random(11);
  const Planes planes = MakePlanes(kernel, shape, &random);
  const kernels::ProductParams& params = planes.params;
  const auto cols = static_cast<std::size_t>(shape.cols);
  const ActivationShape layout{1, cols, 1};
  const Bytes input = EncodeActivations(kForm, layout, random.Floats(cols));
  std::vector<Bytes> bindings = {StepOf(1).Pack(), planes.memory, input,
                                 ToBytes(std::vector<float>(params.output_stride, kPoison)),
                                 planes.memory};
  RunStream(runner, kernel, params, parts, workgroups, &bindings);
  if (testing::Test::HasFatalFailure()) return;
  ExpectRows(params, bindings[3],
             Multiply(planes, kForm, shape, DecodeActivations(kForm, layout, input)), 1e-5, kernel);
}

void CheckPlain(KernelRunner& runner, const std::string& kernel) {
  CheckPlainOf(runner, kernel, {{53}, 384, 1, 1, 1}, 2, 4);
  CheckPlainOf(runner, kernel, {{3}, 160, 1, 1, 1}, 1, 7);
}

// A link, and one whose neighbour in front never counts itself: waiting ends, the host is told, and
// the link counts itself all the same, so that what hangs on it ends, too.
void CheckChainProbe(KernelRunner& runner, const std::string& kernel) {
  constexpr std::uint32_t kGroups = 5;
  std::vector<std::uint32_t> from(kGroups * 64);
  std::vector<std::uint32_t> expected;
  for (std::uint32_t i = 0; i < from.size(); ++i) from[i] = i * i + 3;
  for (std::size_t i = 0; i < from.size(); ++i)
    expected.push_back(from[i] * 5 + from[(i * 17 + 1856) % from.size()] + 99);
  const kernels::ProbeParams params = {99};
  for (const bool told : {true, false}) {
    const TestChain chain(kernel, told);
    std::vector<Bytes> bindings = {ToBytes(from), ToBytes(std::vector<std::uint32_t>(from.size()))};
    chain.Bind(&bindings);
    const absl::Status run = runner.Run(
        kernel, {}, chain.Push(std::as_bytes(std::span(&params, 1))), {kGroups, 1, 1}, &bindings);
    ASSERT_TRUE(run.ok()) << run;
    chain.ExpectDone(bindings, kGroups);
    EXPECT_EQ(FromBytes<std::uint32_t>(bindings[1]), expected);
  }
}

}  // namespace

std::map<std::string, KernelTwin> StreamTwins() {
  std::map<std::string, KernelTwin> twins = {{"chain_probe", CheckChainProbe}};
  for (const std::string format : {"int8", "int4"}) {
    for (const char* const end : {"", "_geglu", "_chained", "_geglu_chained"})
      twins["stream_" + format + end] = CheckStream;
    twins["stream_" + format + "_plain_chained"] = CheckPlain;
  }
  return twins;
}

}  // namespace tandem
