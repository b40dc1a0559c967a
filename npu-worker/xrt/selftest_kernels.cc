#include "npu-worker/xrt/selftest_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/device/cpu/kernels.h"
#include "npu-worker/attention/attention_sequence.h"
#include "npu-worker/attention/attention_twin.h"
#include "npu-worker/rows/rows_sequence.h"

namespace tandem::npu {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
// Of the largest value. Rows: float32 products that a core composes of bfloat16 ones may differ in
// their last bits. Attention: weights are rounded to bfloat16 (0.0011 on the host), and how exact
// the cores' sums and powers of two are, AMD does not say.
constexpr double kRowsAllowed = 1e-4;
constexpr double kAttentionAllowed = 0.01;

std::vector<float> Random(std::int64_t n, std::uint32_t seed, float width) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, width);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = normal(random);
  return values;
}

// Runs `words` with buffers of these sizes, of which `fill` writes all but the last and `read`
// reads the last.
template <typename Fill, typename Read>
absl::Status RunOnce(XrtNpu* npu, const std::vector<std::uint32_t>& words,
                     const std::vector<std::uint64_t>& sizes, const Fill& fill, const Read& read) {
  std::vector<NpuBuffer> buffers;
  for (const std::uint64_t size : sizes) {
    TANDEM_ASSIGN_OR_RETURN(NpuBuffer buffer, npu->Allocate(size));
    buffers.push_back(std::move(buffer));
  }
  fill(buffers);
  for (NpuBuffer& buffer : buffers) TANDEM_RETURN_IF_ERROR(buffer.Flush(0, buffer.bytes().size()));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<NpuCall> call, npu->PrepareCall(words, buffers));
  TANDEM_RETURN_IF_ERROR(call->Start());
  TANDEM_RETURN_IF_ERROR(call->Wait(Deadline::After(kPatience)));
  NpuBuffer& last = buffers.back();
  TANDEM_RETURN_IF_ERROR(last.Fetch(0, last.bytes().size()));
  read(last.bytes());
  return absl::OkStatus();
}

void Compare(const std::string& what, const std::vector<float>& found,
             const std::vector<double>& expected, double allowed, bool* agrees) {
  const double difference = Difference(found, expected);
  const bool good = difference <= allowed;
  std::printf("  %-42s difference %.2e of at most %.0e  %s\n", what.c_str(), difference, allowed,
              good ? "ok" : "WRONG");
  *agrees = *agrees && good;
}

// Gemma 3's shapes: 27B's heads of 128, the others' of 256, with and without a window.
absl::Status RunAttention(XrtNpu* npu, bool* agrees) {
  struct Case {
    const char* what;
    AttentionShape shape;
    std::int64_t window;
  };
  constexpr Case kCases[] = {{"2 heads of 128 to a kv head", {10, 5, 128, 70, 130}, 0},
                             {"with a window of 20 keys", {4, 2, 128, 9, 100}, 20},
                             {"4 heads of 256 to a kv head", {4, 1, 256, 21, 50}, 0},
                             {"one token, one key", {2, 1, 256, 1, 1}, 0}};
  for (const Case& c : kCases) {
    TANDEM_ASSIGN_OR_RETURN(const AttentionLayout layout,
                            AttentionLayout::Make(npu->info().array, c.shape));
    std::vector<KeyRange> ranges;
    for (std::int64_t t = 0; t < c.shape.tokens; ++t) {
      const std::int64_t end = c.shape.keys - c.shape.tokens + t + 1;
      const std::int64_t first = c.window > 0 ? std::max<std::int64_t>(0, end - c.window) : 0;
      ranges.push_back({static_cast<std::int32_t>(first), static_cast<std::int32_t>(end)});
    }
    const std::int64_t query_stride = c.shape.heads * c.shape.head_dim;
    const std::int64_t key_stride = c.shape.kv_heads * c.shape.head_dim;
    const std::vector<float> queries = Random(c.shape.tokens * query_stride, 1, 1);
    const std::vector<float> keys = Random(c.shape.keys * key_stride, 2, 1);
    const std::vector<float> values = Random(c.shape.keys * key_stride, 3, 1);
    const float scale = 1 / std::sqrt(static_cast<float>(c.shape.head_dim));
    std::vector<float> found(queries.size());
    TANDEM_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> words,
                            AttentionInstructions(layout, ranges));
    TANDEM_RETURN_IF_ERROR(RunOnce(
        npu, words, {layout.key_value_bytes(), layout.query_bytes(), layout.output_bytes()},
        [&](const std::vector<NpuBuffer>& buffers) {
          PackKeysValues(layout, keys.data(), values.data(), key_stride,
                         buffers[kKeysValuesArgument].bytes());
          PackQueries(layout, ranges, queries.data(), query_stride, scale,
                      buffers[kQueriesArgument].bytes());
        },
        [&](std::span<const std::byte> out) {
          UnpackAttention(layout, out, found.data(), query_stride);
        }));
    Compare(c.what, found,
            AttentionTwin(c.shape, ranges, queries.data(), keys.data(), values.data(), scale),
            kAttentionAllowed, agrees);
  }
  return absl::OkStatus();
}

// What the CPU device makes of one row.
void RowOnHost(const RowsShape& shape, const float* operand, float* row) {
  switch (shape.operation) {
    case RowOperation::kRmsNorm:
      return RmsNormRow(row, operand, shape.width, shape.eps, row);
    case RowOperation::kRotate:
      for (std::int64_t at = 0; at < shape.width; at += 2 * shape.half)
        RotateRow(row + at, operand, operand + shape.half, 2 * shape.half, shape.scale);
      return;
    case RowOperation::kGeGlu:
      return GeGluRow(row, operand, shape.width);
  }
}

// Widths of 27B, with heads of 128, in each operation: fewer rows than cores, and more.
absl::Status RunRows(XrtNpu* npu, bool* agrees) {
  constexpr std::pair<const char*, RowsShape> kCases[] = {
      {"RMSNorm, 40 rows of 5376", {RowOperation::kRmsNorm, 40, 5376, 0, 1e-6f, 1}},
      {"RMSNorm, 3 rows of 1152", {RowOperation::kRmsNorm, 3, 1152, 0, 1e-6f, 1}},
      {"RoPE, 9 rows of 32 heads", {RowOperation::kRotate, 9, 4096, 64, 0, 0.0884f}},
      {"GeGLU, 2 rows of 21504", {RowOperation::kGeGlu, 2, 21504, 0, 0, 1}}};
  for (const auto& [what, shape] : kCases) {
    TANDEM_ASSIGN_OR_RETURN(const RowsLayout layout, RowsLayout::Make(npu->info().array, shape));
    const std::int64_t with =
        shape.operation == RowOperation::kRotate ? 2 * shape.half : shape.width;
    const std::vector<float> x = Random(shape.rows * shape.width, 4, 2);
    const std::vector<float> operand = Random(shape.rows * with, 5, 1);
    std::vector<float> found(x.size()), twin = x;
    TANDEM_RETURN_IF_ERROR(RunOnce(
        npu, RowsInstructions(layout), {layout.pair_bytes(), layout.out_bytes()},
        [&](const std::vector<NpuBuffer>& buffers) {
          PackRows(layout, x.data(), shape.width, operand.data(), with,
                   buffers[kRowPairsArgument].bytes());
        },
        [&](std::span<const std::byte> out) {
          UnpackRows(layout, out, found.data(), shape.width);
        }));
    for (std::int64_t r = 0; r < shape.rows; ++r)
      RowOnHost(shape, operand.data() + r * with, twin.data() + r * shape.width);
    Compare(what, found, {twin.begin(), twin.end()}, kRowsAllowed, agrees);
  }
  return absl::OkStatus();
}

}  // namespace

double Difference(const std::vector<float>& found, const std::vector<double>& expected) {
  double largest = 0, magnitude = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = std::abs(static_cast<double>(found[i]) - expected[i]);
    // What is no number differs from everything.
    largest = std::isfinite(difference) ? std::max(largest, difference) : HUGE_VAL;
    magnitude = std::max(magnitude, std::abs(expected[i]));
  }
  return magnitude == 0 ? largest : largest / magnitude;
}

absl::Status SelftestKernels(const NpuInfo& npu, const std::string& kernels, bool* agrees) {
  for (const KernelKind kind : {KernelKind::kAttention, KernelKind::kRows}) {
    const std::string name(KernelKindName(kind));
    const std::string folder =
        absl::StrCat(kernels, "/", npu.array == kAie2Array ? "aie2_" : "aie2p_", name);
    const absl::StatusOr<KernelPackage> package = LoadKernelPackage(folder);
    if (absl::IsNotFound(package.status())) {
      std::printf("%s: no package %s: its kernels did NOT run\n", name.c_str(), folder.c_str());
      continue;
    }
    TANDEM_RETURN_IF_ERROR(package.status());
    if (package->kind != kind) {
      return absl::InvalidArgumentError(absl::StrCat(folder, ": expected a package of ", name,
                                                     ", found one of ",
                                                     AbslView(KernelKindName(package->kind))));
    }
    std::printf("%s (package of mlir-aie %s, Peano %s, xclbin crc32 %08x)\n", name.c_str(),
                package->mlir_aie.c_str(), package->peano.c_str(), package->xclbin_crc32);
    TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<XrtNpu> device, XrtNpu::Open(npu, *package));
    TANDEM_RETURN_IF_ERROR(kind == KernelKind::kAttention ? RunAttention(device.get(), agrees)
                                                          : RunRows(device.get(), agrees));
  }
  return absl::OkStatus();
}

}  // namespace tandem::npu
