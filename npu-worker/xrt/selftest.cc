#include "npu-worker/xrt/selftest.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/device/cpu/kernels.h"
#include "npu-worker/package/npu_family.h"
#include "npu-worker/xrt/npu_products.h"
#include "npu-worker/xrt/selftest_kernels.h"
#include "npu-worker/xrt/xrt_device.h"
#include "npu-worker/xrt/xrt_npu.h"

namespace tandem::npu {
namespace {

constexpr int kTimedRuns = 8;

struct Case {
  const char* what;
  std::int64_t rows, columns, tokens;
  // Scales of one: every sum is an integer below 2^24, and no order of additions changes a bit.
  bool exact;
};
// Small enough for the stand-in of the tests, and of every kind: one group, padding in all
// directions, several blocks of rows, of tokens, and rows of many chunks.
constexpr Case kCases[] = {
    {"one group", 37, 32, 13, true},          {"padded on all sides", 301, 416, 70, true},
    {"blocks of rows", 600, 160, 64, true},   {"blocks of tokens", 64, 128, 600, true},
    {"scales, one group", 37, 32, 13, false}, {"scales, long rows", 65, 2080, 9, false},
};

class Operands {
 public:
  Operands(const Case& c, bool int4, std::uint32_t seed = 1234) {
    std::mt19937 random(seed);
    values_.resize(static_cast<std::size_t>(c.rows * c.columns / (int4 ? 2 : 1)));
    for (std::uint8_t& v : values_) v = static_cast<std::uint8_t>(random());
    scales_.resize(static_cast<std::size_t>(c.rows * c.columns / kGroupSize));
    for (std::uint16_t& s : scales_) {
      s = FloatToHalf(c.exact ? 1.0f : (static_cast<float>(random() % 2000) - 1000) * 1e-5f);
    }
    const auto padded =
        static_cast<std::int64_t>(RoundUp(static_cast<std::uint64_t>(c.columns),
                                          static_cast<std::uint64_t>(kGroupSize * kChunkGroups)));
    const auto quants = static_cast<std::size_t>(c.tokens * padded);
    plain_.resize(quants);
    split_.resize(quants);
    biased_.resize(quants);
    x_scales_.resize(quants / kGroupSize);
    x_sums_.resize(quants / kGroupSize);
    rows_ = {plain_.data(), split_.data(), x_scales_.data(), x_sums_.data(),
             padded,        c.tokens,      biased_.data()};
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<std::size_t>(c.columns));
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      for (float& v : x) v = normal(random);
      QuantizeActivations(x.data(), c.columns, t, rows_);
    }
    if (c.exact) std::fill(x_scales_.begin(), x_scales_.end(), 1.0f);
    view_ = {int4 ? WeightFormat::kInt4 : WeightFormat::kInt8, c.rows, c.columns, values_.data(),
             scales_.data()};
  }
  const MatrixView& view() const { return view_; }
  const QuantizedRows& rows() const { return rows_; }

  // With the rows `x` on the host, in the CPU device's order of additions.
  std::vector<float> Twin(const QuantizedRows& x) const {
    std::vector<float> out(static_cast<std::size_t>(x.rows * view_.rows));
    const std::unique_ptr<void, void (*)(void*)> scratch(
        std::aligned_alloc(64,
                           RoundUp(static_cast<std::uint64_t>(Int8ScratchBytes(view_.cols)), 64)),
        std::free);
    Int8Product(view_, 0, view_.rows, x, scratch.get(), out.data(), view_.rows);
    return out;
  }

 private:
  std::vector<std::uint8_t> values_;
  std::vector<std::uint16_t> scales_;
  std::vector<std::int8_t> plain_, split_, biased_;
  std::vector<float> x_scales_;
  std::vector<std::int32_t> x_sums_;
  QuantizedRows rows_;
  MatrixView view_;
};

// Prints what came of it.
bool Compare(const Case& c, const std::vector<float>& found, const std::vector<float>& expected) {
  const double difference = Difference(found, {expected.begin(), expected.end()});
  // Scaled sums: float32 products that a core composes of bfloat16 ones may differ in their last
  // bits, and rows are added in another order.
  const double allowed = c.exact ? 0 : 1e-4;
  const bool good = difference <= allowed;
  std::printf("  %-20s %4ld x %4ld x %3ld  difference %.2e of at most %.0e  %s\n", c.what,
              static_cast<long>(c.rows), static_cast<long>(c.columns), static_cast<long>(c.tokens),
              difference, allowed, good ? "ok" : "WRONG");
  return good;
}

absl::Status RunCase(NpuProductUnit* unit, const Case& c, bool int4, bool* agrees) {
  const Operands operands(c, int4);
  std::vector<float> found(static_cast<std::size_t>(c.tokens * c.rows));
  TANDEM_RETURN_IF_ERROR(unit->Once(operands.view(), operands.rows(), c.columns, found.data()));
  *agrees = Compare(c, found, operands.Twin(operands.rows())) && *agrees;
  return absl::OkStatus();
}

// Products of one input from one submission, as a layer's queries, keys and values are.
absl::Status RunTogether(NpuProductUnit* unit, bool int4, bool* agrees) {
  constexpr Case kTogether[] = {{"run list, first", 300, 160, 70, true},
                                {"run list, second", 130, 160, 70, true},
                                {"run list, third", 130, 160, 70, true}};
  std::vector<Operands> operands;
  std::vector<MatrixView> group;
  std::vector<std::vector<float>> found;
  for (const Case& c : kTogether) {
    operands.emplace_back(c, int4, static_cast<std::uint32_t>(operands.size()));
    group.push_back(operands.back().view());
    found.emplace_back(static_cast<std::size_t>(c.tokens * c.rows));
  }
  TANDEM_RETURN_IF_ERROR(unit->Prepare(group, kTogether[0].tokens));
  std::vector<MatrixProduct> products;
  for (std::size_t i = 0; i < group.size(); ++i) products.push_back({&group[i], found[i].data()});
  absl::Status status = unit->SetInput(operands[0].rows(), kTogether[0].columns);
  if (status.ok()) status = unit->Multiply(products);
  unit->Forget(group);
  if (!status.ok()) return status;
  for (std::size_t i = 0; i < group.size(); ++i)
    *agrees = Compare(kTogether[i], found[i], operands[i].Twin(operands[0].rows())) && *agrees;
  return absl::OkStatus();
}

// A block of tokens for all columns, long enough that starting it does not count.
absl::Status Time(NpuProductUnit* unit, bool int4) {
  const Case c = {"speed", 2048, 1024,
                  static_cast<std::int64_t>(unit->info().array.columns) * kTileTokens, false};
  const Operands operands(c, int4);
  std::vector<float> out(static_cast<std::size_t>(c.tokens * c.rows));
  const MatrixView& view = operands.view();
  TANDEM_RETURN_IF_ERROR(unit->Prepare({&view, 1}, c.tokens));
  const MatrixProduct product = {&view, out.data()};
  absl::Status status = unit->SetInput(operands.rows(), c.columns);
  const double before = unit->running_seconds();
  for (int i = 0; i < kTimedRuns && status.ok(); ++i) status = unit->Multiply({&product, 1});
  const double seconds = (unit->running_seconds() - before) / kTimedRuns;
  unit->Forget({&view, 1});
  if (!status.ok()) return status;
  const double macs = static_cast<double>(c.rows * c.columns * c.tokens);
  const ArrayShape& array = unit->info().array;
  std::printf(
      "  %ld x %ld x %ld in %.3f ms: %.1f GMAC/s, %.2f %% of %u cores x %u MACs a cycle at "
      "1 GHz\n",
      static_cast<long>(c.rows), static_cast<long>(c.columns), static_cast<long>(c.tokens),
      seconds * 1e3, macs / seconds * 1e-9,
      100 * macs / seconds / (1e9 * array.rows * array.columns * array.macs_per_cycle),
      array.rows * array.columns, array.macs_per_cycle);
  return absl::OkStatus();
}

absl::Status Run(const std::string& kernels, bool* agrees) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<NpuInfo> npus, ListNpus());
  if (npus.empty()) return absl::NotFoundError("XRT: expected an NPU, found none");
  const NpuInfo& npu = npus.front();
  std::printf("NPU       %s at %s, %s, %u columns of %u cores\n", npu.name.c_str(),
              npu.address.c_str(), GenerationName(npu.array).c_str(), npu.array.columns,
              npu.array.rows);
  std::printf("versions  XRT %s, amdxdna %s, firmware %s\n", npu.xrt.c_str(), npu.driver.c_str(),
              npu.firmware.empty() ? "unknown" : npu.firmware.c_str());
  TANDEM_RETURN_IF_ERROR(CheckFirmware(npu.array, npu.name, npu.firmware));
  for (const bool int4 : {false, true}) {
    NpuProductUnit unit(npu, {kernels, DefaultWeightsBudget()});
    TANDEM_ASSIGN_OR_RETURN(const KernelPackage package, unit.LoadPackage(int4));
    std::printf("product, %s weights (package of mlir-aie %s, Peano %s, xclbin crc32 %08x)\n",
                int4 ? "int4" : "int8", package.mlir_aie.c_str(), package.peano.c_str(),
                package.xclbin_crc32);
    for (const Case& c : kCases) TANDEM_RETURN_IF_ERROR(RunCase(&unit, c, int4, agrees));
    TANDEM_RETURN_IF_ERROR(RunTogether(&unit, int4, agrees));
    TANDEM_RETURN_IF_ERROR(Time(&unit, int4));
  }
  return SelftestKernels(npu, kernels, agrees);
}

}  // namespace

int Selftest(const std::string& kernels) {
  bool agrees = true;
  const absl::Status status = Run(kernels, &agrees);
  if (!status.ok()) std::printf("ended by: %s\n", status.ToString().c_str());
  const bool good = status.ok() && agrees;
  std::printf("result    %s\n", good ? "all kernels agree with their twins" : "FAILED");
  return good ? 0 : 1;
}

}  // namespace tandem::npu
