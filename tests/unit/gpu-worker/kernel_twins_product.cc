#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "gpu-worker/kernels/kernel_table.h"
#include "gpu-worker/stage/tuning.h"
#include "lib/base/numeric.h"
#include "lib/base/strings.h"
#include "tests/unit/gpu-worker/kernel_twins_product.h"
#include "tests/unit/gpu-worker/test_chain.h"

namespace tandem {
namespace {

constexpr std::size_t kBlockBytes = 16;

// The weights of a row as a kernel multiplies with them: matrix kernels round them to float16.
std::vector<float> RowAsUsed(const Planes& planes, std::uint32_t row, ActivationForm form) {
  for (const TestMatrix& matrix : planes.matrices) {
    if (row < matrix.rows) {
      std::vector<float> weights = matrix.Row(row);
      if (form == ActivationForm::kF16) {
        for (float& weight : weights) weight = HalfToFloat(FloatToHalf(weight));
      }
      return weights;
    }
    row -= static_cast<std::uint32_t>(matrix.rows);
  }
  return {};
}

}  // namespace

Planes MakePlanes(const std::string& kernel, const ProductCase& shape, TestRandom* random) {
  Planes planes;
  kernels::ProductParams& params = planes.params;
  const auto place = [&planes](const Bytes& plane) {
    planes.memory.resize(RoundUp(planes.memory.size(), 64) + 32, std::byte{0xff});
    const std::size_t at = planes.memory.size();
    planes.memory.insert(planes.memory.end(), plane.begin(), plane.end());
    return at;
  };
  std::uint32_t* const values[] = {&params.values_a, &params.values_b, &params.values_c};
  std::uint32_t* const scales[] = {&params.scales_a, &params.scales_b, &params.scales_c};
  for (std::size_t i = 0; i < shape.rows.size(); ++i) {
    planes.matrices.push_back(
        RandomMatrix(WeightFormatOf(kernel), shape.rows[i], shape.cols, random));
    TestMatrix& matrix = planes.matrices.back();
    if (shape.extreme) std::ranges::fill(matrix.values, std::byte{0xff});
    *values[i] = static_cast<std::uint32_t>(place(matrix.values) / kBlockBytes);
    *scales[i] = static_cast<std::uint32_t>(place(matrix.scales) / 2);
    if (i == 1) params.second_row = params.rows;
    if (i == 2) params.third_row = params.rows;
    params.rows += static_cast<std::uint32_t>(shape.rows[i]);
  }
  planes.memory.resize(RoundUp(planes.memory.size(), kBlockBytes));
  if (shape.rows.size() < 2) params.second_row = params.rows;
  if (shape.rows.size() < 3) params.third_row = params.rows;
  params.groups = static_cast<std::uint32_t>(shape.cols / 32);
  params.output_stride = params.rows + 5;
  params.output_offset = 3;
  params.pad = shape.pad;
  params.part_stride = shape.bucket * params.output_stride + 7;
  params.output_scale = 2;
  return planes;
}

std::vector<double> Multiply(const Planes& planes, ActivationForm form, const ProductCase& shape,
                             const std::vector<float>& x) {
  const auto cols = static_cast<std::size_t>(shape.cols);
  std::vector<double> y(static_cast<std::size_t>(shape.tokens) * planes.params.rows);
  for (std::uint32_t row = 0; row < planes.params.rows; ++row) {
    const std::vector<float> weights = RowAsUsed(planes, row, form);
    for (std::size_t t = 0; t < static_cast<std::size_t>(shape.tokens); ++t) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; ++c)
        sum += static_cast<double>(weights[c]) * static_cast<double>(x[t * cols + c]);
      y[t * planes.params.rows + row] = sum;
    }
  }
  return y;
}

double Geglu(double gate, double up) {
  const double u = 0.79788456080286536 * (gate + 0.044715 * gate * gate * gate);
  return gate / 2 * (1 + std::tanh(u)) * up;
}

HalfEnd EndHalf(const std::vector<double>& branch, float largest, TestRandom* random) {
  const std::size_t hidden = branch.size();
  HalfEnd end;
  end.weight = random->Floats(hidden, 0.5f, 2);
  end.next_weight = random->Floats(hidden, largest / 4, largest);
  end.x = random->Floats(3 * hidden, -5, 5);
  const auto inverse = [&](std::span<const double> values) {
    double squares = 0;
    for (const double value : values) squares += value * value;
    const double mean = squares / static_cast<double>(hidden);
    return 1 / std::sqrt(mean + static_cast<double>(HalfEnd::kEpsilon));
  };
  std::vector<double> out;
  for (std::size_t i = 0; i < hidden; ++i) {
    out.push_back(static_cast<double>(end.x[hidden + i]) +
                  branch[i] * inverse(branch) * static_cast<double>(end.weight[i]));
    end.residual.push_back(static_cast<float>(out.back()));
  }
  for (std::size_t i = 0; i < hidden; ++i)
    end.normed.push_back(
        static_cast<float>(out[i] * inverse(out) * static_cast<double>(end.next_weight[i])));
  return end;
}

namespace {

// One dispatch, all of whose workgroups count themselves where it is of a chain.
void RunProduct(KernelRunner& runner, const std::string& kernel,
                const std::vector<std::uint32_t>& constants, const kernels::ProductParams& params,
                vulkan::Groups groups, std::vector<Bytes>* bindings) {
  const TestChain chain(kernel);
  chain.Bind(bindings);
  const absl::Status run =
      runner.Run(kernel, chain.Constants(constants),
                 chain.Push(std::as_bytes(std::span(&params, 1))), groups, bindings);
  ASSERT_TRUE(run.ok()) << run;
  chain.ExpectDone(*bindings, groups.x * groups.y * groups.z);
}

// y = matrices * x, with masked tokens and a place in wider rows; parts are summed here.
void CheckProduct(KernelRunner& runner, const std::string& kernel,
                  const std::vector<std::uint32_t>& constants, vulkan::Groups groups,
                  const ProductCase& shape) {
  TestRandom random(7);
  Planes planes = MakePlanes(kernel, shape, &random);
  kernels::ProductParams& params = planes.params;
  const std::uint32_t chunks = params.groups / 4;
  params.chunks_a_part = static_cast<std::uint32_t>(CeilDiv(chunks, shape.parts));
  params.chunks_a_part += shape.parts > 1 ? params.chunks_a_part % 2 : 0;
  const bool dot = kernel.starts_with("dot_");
  const ActivationForm form = dot ? ActivationForm::kQ8 : ActivationForm::kF16;
  const float scale = dot ? 1 : params.output_scale;
  const auto cols = static_cast<std::size_t>(shape.cols);
  const ActivationShape layout{shape.bucket, cols, shape.pad};
  const Bytes input = EncodeActivations(
      form, layout, random.Floats(shape.bucket * cols, -1, shape.extreme ? -1.0f : 1.0f));
  const std::vector<float> poisoned(std::size_t{shape.parts} * params.part_stride, kPoison);
  std::vector<Bytes> bindings = {StepOf(shape.tokens).Pack(), planes.memory, input,
                                 ToBytes(poisoned), planes.memory};
  RunProduct(runner, kernel, constants, params, groups, &bindings);
  const std::vector<float> found = FromBytes<float>(bindings[3]);
  const std::vector<double> y =
      Multiply(planes, form, shape, DecodeActivations(form, layout, input));
  std::vector<float> sums, expected;
  std::vector<bool> inside(found.size(), false);
  for (std::size_t t = 0; t < static_cast<std::size_t>(shape.tokens); ++t) {
    for (std::size_t row = 0; row < params.rows; ++row) {
      expected.push_back(static_cast<float>(y[t * params.rows + row]) * scale);
      sums.push_back(0);
      for (std::size_t p = 0; p < shape.parts; ++p) {
        const std::size_t at =
            p * params.part_stride + t * params.output_stride + params.output_offset + row;
        sums.back() += found[at];
        inside[at] = true;
      }
    }
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (inside[i]) continue;
    ASSERT_EQ(found[i], kPoison) << kernel << " wrote outside, at " << i;
  }
  ExpectNear(sums, expected, 1e-5, kernel);
}

// Of two matrices of equal height: gelu(gate) * up as the next product reads it.
void CheckGeglu(KernelRunner& runner, const std::string& kernel,
                const std::vector<std::uint32_t>& constants, vulkan::Groups groups,
                const ProductCase& shape) {
  TestRandom random(8);
  Planes planes = MakePlanes(kernel, shape, &random);
  kernels::ProductParams& params = planes.params;
  const ActivationForm form =
      kernel.starts_with("dot_") ? ActivationForm::kQ8 : ActivationForm::kF16;
  const float scale = form == ActivationForm::kQ8 ? 1 : 0.0625f;
  const std::size_t ffn = params.second_row;
  const auto cols = static_cast<std::size_t>(shape.cols);
  params.chunks_a_part = params.groups / 4;
  params.part_stride = shape.pad + 8;
  params.output_scale = scale;
  const ActivationShape layout{shape.bucket, cols, shape.pad};
  // Sums of about one: where GeGLU is neither nothing nor everything.
  const Bytes input =
      EncodeActivations(form, layout, random.Floats(shape.bucket * cols, -0.02f, 0.02f));
  const std::vector<double> y =
      Multiply(planes, form, shape, DecodeActivations(form, layout, input));
  std::vector<float> expected(static_cast<std::size_t>(shape.bucket) * ffn, 0);
  for (std::size_t t = 0; t < static_cast<std::size_t>(shape.tokens); ++t) {
    for (std::size_t c = 0; c < ffn; ++c) {
      const double value = Geglu(y[t * 2 * ffn + c], y[t * 2 * ffn + ffn + c]);
      expected[t * ffn + c] = static_cast<float>(value * static_cast<double>(scale));
    }
  }
  const ActivationShape output{shape.bucket, ffn, shape.pad + 8};
  std::vector<Bytes> bindings = {StepOf(shape.tokens).Pack(), planes.memory, input,
                                 Bytes(output.pad * ffn * sizeof(float)), planes.memory};
  RunProduct(runner, kernel, constants, params, groups, &bindings);
  ExpectActivations(form, output, static_cast<std::size_t>(shape.tokens), bindings[3], expected,
                    1e-4, kernel);
}

void CheckDotGeglu(KernelRunner& runner, const std::string& kernel) {
  const auto run = [&](std::uint32_t lanes, std::uint32_t loads, std::uint32_t tokens,
                       const ProductCase& shape) {
    const std::uint32_t subgroup = runner.device().physical().subgroup_size;
    lanes = std::min(lanes, subgroup);
    CheckGeglu(runner, kernel, {32 * lanes, lanes, loads, tokens, kernels::kRowsAreTokens},
               {static_cast<std::uint32_t>(shape.rows[0]) / 32 + 1, 1, shape.bucket / tokens},
               shape);
  };
  run(4, 2, 1, {{64, 64}, 352, 1, 1, 1});
  run(8, 1, 8, {{96, 96}, 160, 13, 16, 16});
}

void CheckMatrixGeglu(KernelRunner& runner, const std::string& kernel) {
  unsigned bits = 0;
  unsigned tokens = 0;
  ASSERT_EQ(std::sscanf(kernel.c_str(), "matrix_int%u_geglu_%u", &bits, &tokens), 2);
  const auto* const tuning =
      std::find_if(std::begin(kMatrixKernels), std::end(kMatrixKernels),
                   [tokens](const MatrixTuning& candidate) { return candidate.tokens == tokens; });
  ASSERT_NE(tuning, std::end(kMatrixKernels)) << "not in the tuning table";
  const std::uint32_t subgroups = tuning->GegluSubgroups(Cat("int", bits));
  const auto run = [&](std::int64_t ffn, std::int64_t cols, std::int32_t count,
                       std::uint32_t bucket) {
    const auto pad = static_cast<std::uint32_t>(RoundUp(bucket, tokens));
    CheckGeglu(runner, kernel, {kernels::kRowsAreTokens},
               {pad / tokens, static_cast<std::uint32_t>(CeilDiv(ffn, 16 * subgroups)), 1},
               {{ffn, ffn}, cols, count, bucket, pad});
  };
  const auto count = static_cast<std::int32_t>(tokens);
  run(128, 256, count, tokens);
  run(384, 384, count + 1, 2 * tokens);
  run(128, 128, count, tokens);
  run(256, 640, count - 1, tokens);
}

void CheckDotPostNorm(KernelRunner& runner, const std::string& kernel) {
  for (const bool next : {false, true}) {
    TestRandom random(9);
    const ProductCase shape{{256}, 352, 1, 1, 1};
    Planes planes = MakePlanes(kernel, shape, &random);
    kernels::ProductParams& params = planes.params;
    const std::size_t hidden = params.rows;
    params.output_stride = params.rows;
    params.output_offset = 0;
    params.part_stride = std::bit_cast<std::uint32_t>(HalfEnd::kEpsilon);
    const ActivationShape layout{1, static_cast<std::size_t>(shape.cols), 1};
    const Bytes input = EncodeActivations(ActivationForm::kQ8, layout,
                                          random.Floats(static_cast<std::size_t>(shape.cols)));
    const HalfEnd end = EndHalf(Multiply(planes, ActivationForm::kQ8, shape,
                                         DecodeActivations(ActivationForm::kQ8, layout, input)),
                                2, &random);
    TestStep step = StepOf(1);
    step.input_base = static_cast<std::uint32_t>(hidden);
    const Bytes counters(4 * sizeof(std::uint32_t));
    const Bytes row(hidden * sizeof(float));
    std::vector<Bytes> bindings = {step.Pack(),
                                   planes.memory,
                                   input,
                                   row,
                                   planes.memory,
                                   ToBytes(end.weight),
                                   ToBytes(end.x),
                                   row,
                                   ToBytes(end.next_weight),
                                   row,
                                   counters};
    const absl::Status run =
        runner.Run(kernel,
                   {64, 8, 2, 1, kernels::kRowsAreTokens, kernels::kBaseInput, kernels::kBaseOutput,
                    next ? 1u : 0u, 1},
                   std::as_bytes(std::span(&params, 1)), {256 / 8, 1, 1}, &bindings);
    ASSERT_TRUE(run.ok()) << run;
    ExpectNear(FromBytes<float>(bindings[7]), end.residual, 1e-5, kernel);
    EXPECT_EQ(bindings[10], counters) << kernel;
    const ActivationShape after{1, hidden, 1};
    if (next)
      ExpectActivations(ActivationForm::kQ8, after, 1, bindings[9], end.normed, 1e-5, kernel);
    if (!next) {
      EXPECT_EQ(bindings[9], row) << kernel;
    }
  }
}

void CheckDot(KernelRunner& runner, const std::string& kernel) {
  const std::uint32_t subgroup = runner.device().physical().subgroup_size;
  for (const std::uint32_t tokens : {1u, 2u, 4u, 8u}) {
    for (const std::uint32_t lanes : {8u, std::min(32u, subgroup)}) {
      for (const std::uint32_t loads : {tokens == 8 ? 1u : 3u, tokens == 1 ? 7u : 2u}) {
        // A grid of two dimensions with groups to spare.
        const auto groups = static_cast<std::uint32_t>(CeilDiv(37 + 6 + 11, 64 / lanes));
        const auto count = static_cast<std::int32_t>(tokens == 8 ? 5 : tokens);
        CheckProduct(runner, kernel, {64, lanes, loads, tokens, kernels::kRowsAreLogits},
                     {2, (groups + 1) / 2 + 1, 1}, {{37, 6, 11}, 352, count, tokens, tokens});
      }
    }
  }
  CheckProduct(runner, kernel, {64, 8, 2, 8, kernels::kRowsAreTokens}, {6, 1, 3},
               {{41}, 160, 19, 24, 24});
  CheckProduct(runner, kernel, {32, 8, 4, 1, kernels::kRowsAreTokens}, {10, 1, 1},
               {{40}, 64, 1, 1, 1});
}

void CheckDotRows(KernelRunner& runner, const std::string& kernel) {
  // A grid with groups to spare; several workgroups of tokens.
  const auto run = [&](std::uint32_t tokens, std::uint32_t packed, const ProductCase& shape) {
    CheckProduct(runner, kernel, {64, tokens, kernels::kRowsAreLogits, packed},
                 {2, 2, shape.bucket / tokens}, shape);
  };
  for (std::uint32_t packed = kernel.starts_with("dot_int8") ? 1 : 0; packed < 2; ++packed) {
    run(1, packed, {{37, 6, 91}, 384, 1, 1, 1});
    run(8, packed, {{37, 6, 91}, 384, 5, 8, 8});
    run(2, packed, {{41}, 1152, 5, 6, 6});
    run(1, packed, {{32}, 128, 1, 1, 1, 1, /*extreme=*/true});
  }
}

// Of kernels whose workgroups have so many rows and tokens.
void CheckTiled(KernelRunner& runner, const std::string& kernel, std::uint32_t rows,
                std::uint32_t tokens, ProductCase shape) {
  const auto all = std::accumulate(shape.rows.begin(), shape.rows.end(), std::int64_t{0});
  shape.pad = static_cast<std::uint32_t>(RoundUp(shape.bucket, tokens));
  const auto high = static_cast<std::uint32_t>(CeilDiv(all, rows));
  CheckProduct(runner, kernel, {kernels::kRowsAreTokens}, {shape.pad / tokens, high, shape.parts},
               shape);
}

// Kernels are called matrix_<format>_<tokens>_<tiles>x<subgroups>.
void CheckMatrix(KernelRunner& runner, const std::string& kernel) {
  unsigned tokens = 0;
  unsigned tiles = 0;
  unsigned subgroups = 0;
  ASSERT_EQ(std::sscanf(kernel.c_str(), "matrix_int%*u_%u_%ux%u", &tokens, &tiles, &subgroups), 3);
  const auto count = static_cast<std::int32_t>(tokens);
  const auto run = [&](const ProductCase& shape) {
    CheckTiled(runner, kernel, tiles * subgroups * 16, tokens, shape);
  };
  run({{16}, 128, count, tokens, 0});
  run({{300}, 384, count - 3, tokens, 0});
  run({{128, 32, 37}, 1152, count, tokens, 0});
  run({{256}, 1024, count + 1, 2 * tokens, 0});
  run({{100}, 1152, count - 1, tokens, 0, 2});
  run({{64}, 1664, count, tokens, 0, 3});
}

// Kernels are called tiles_<format>_<row tiles>x<token tiles>_<row subgroups>x<token subgroups>.
void CheckTiles(KernelRunner& runner, const std::string& kernel) {
  const std::string format = kernel.substr(6, kernel.find('_', 6) - 6);
  const auto* const tuning =
      std::find_if(std::begin(kTilesKernels), std::end(kTilesKernels),
                   [&](const TilesTuning& candidate) { return candidate.Name(format) == kernel; });
  ASSERT_NE(tuning, std::end(kTilesKernels)) << "not in the tuning table";
  const std::uint32_t tokens = tuning->tokens();
  const auto count = static_cast<std::int32_t>(tokens);
  CheckTiled(runner, kernel, tuning->rows(), tokens, {{16}, 128, count, tokens, 0});
  CheckTiled(runner, kernel, tuning->rows(), tokens, {{128, 32, 37}, 1152, count - 3, tokens, 0});
  CheckTiled(runner, kernel, tuning->rows(), tokens, {{64}, 1024, count + 1, 2 * tokens, 0, 3});
}

}  // namespace

std::map<std::string, KernelTwin> ProductTwins() {
  std::map<std::string, KernelTwin> twins;
  for (const vulkan::ShaderCode& code : kernels::All()) {
    if (code.name.starts_with("tiles_")) twins[std::string(code.name)] = CheckTiles;
  }
  for (const char* format : {"int8", "int4"}) {
    for (const char* const end : {"", "_chained"}) {
      twins[std::string("dot_") + format + end] = CheckDot;
      twins[std::string("dot_") + format + "_geglu" + end] = CheckDotGeglu;
    }
    twins[std::string("dot_") + format + "_rows"] = CheckDotRows;
    twins[std::string("dot_") + format + "_post_norm"] = CheckDotPostNorm;
    for (const vulkan::ShaderCode& code : kernels::All()) {
      const std::string name(code.name);
      if (!name.starts_with(std::string("matrix_") + format)) continue;
      twins[name] = name.find("_geglu_") == name.npos ? CheckMatrix : CheckMatrixGeglu;
    }
  }
  return twins;
}

}  // namespace tandem
