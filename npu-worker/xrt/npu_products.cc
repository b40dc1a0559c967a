#include "npu-worker/xrt/npu_products.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/numeric.h"
#include "lib/base/status_macros.h"
#include "lib/base/trace.h"
#include "npu-worker/package/npu_family.h"

namespace tandem::npu {
namespace {

// No product of a model takes as long; the driver gives a stuck command up in a few seconds.
constexpr absl::Duration kLongestProduct = absl::Seconds(60);

}  // namespace

NpuProductUnit::NpuProductUnit(NpuInfo info, NpuProductOptions options)
    : info_(std::move(info)), options_(std::move(options)) {}

NpuProductUnit::~NpuProductUnit() = default;

absl::StatusOr<KernelPackage> NpuProductUnit::LoadPackage(bool int4) const {
  const std::string folder =
      absl::StrCat(options_.kernels, "/", info_.array == kAie2Array ? "aie2" : "aie2p", "_",
                   int4 ? "int4" : "int8");
  TANDEM_ASSIGN_OR_RETURN(KernelPackage package, LoadKernelPackage(folder));
  if (package.int4 == int4) return package;
  return absl::InvalidArgumentError(absl::StrCat(folder, ": holds kernels for other weights"));
}

absl::StatusOr<XrtNpu*> NpuProductUnit::Open(bool int4) {
  std::unique_ptr<XrtNpu>& npu = npus_[int4 ? 1 : 0];
  if (npu == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(const KernelPackage package, LoadPackage(int4));
    TANDEM_ASSIGN_OR_RETURN(npu, XrtNpu::Open(info_, package));
  }
  return npu.get();
}

DeviceReport NpuProductUnit::Report() const {
  const auto seconds = [](const std::atomic<std::int64_t>& ns) {
    return static_cast<double>(ns.load(std::memory_order_relaxed)) * 1e-9;
  };
  DeviceReport report;
  report.facts = {
      {"generation", absl::StrCat(GenerationName(info_.array), ", ", info_.array.columns,
                                  " columns of ", info_.array.rows, " cores")},
      {"firmware", info_.firmware.empty() ? "unknown" : info_.firmware},
      {"kernel driver", absl::StrCat("amdxdna ", info_.driver)},
      {"weights in the array's order", absl::StrCat(weights_bytes_.load() >> 20, " of at most ",
                                                    options_.weights_budget >> 20, " MiB")},
  };
  report.parts = {{"packing activations", "host", seconds(packing_ns_)},
                  {"matrix products", "NPU", running_seconds()},
                  {"unpacking sums", "host", seconds(unpacking_ns_)}};
  return report;
}

std::uint32_t NpuProductUnit::TokenBlocks(std::int64_t tokens) const {
  return static_cast<std::uint32_t>(CeilDiv(static_cast<std::uint64_t>(tokens),
                                            std::uint64_t{info_.array.columns} * kTileTokens));
}

absl::StatusOr<NpuBuffer> NpuProductUnit::Shared(XrtNpu* npu,
                                                 std::map<std::uint64_t, NpuBuffer>* buffers,
                                                 std::uint64_t bytes) {
  const auto found = buffers->find(bytes);
  if (found != buffers->end()) return found->second;
  TANDEM_ASSIGN_OR_RETURN(NpuBuffer buffer, npu->Allocate(bytes));
  return buffers->emplace(bytes, std::move(buffer)).first->second;
}

absl::Status NpuProductUnit::PreparePart(XrtNpu* npu, const MatrixView& w, std::int64_t max_tokens,
                                         Part* part, std::int64_t rows) {
  const bool int4 = w.format == WeightFormat::kInt4;
  const std::uint32_t block = info_.array.columns * kTileTokens;
  for (std::uint32_t blocks = static_cast<std::uint32_t>(part->layouts.size()) + 1;
       blocks <= TokenBlocks(max_tokens); ++blocks) {
    TANDEM_ASSIGN_OR_RETURN(
        const ProductLayout layout,
        ProductLayout::Make(info_.array, {rows, w.cols, std::int64_t{blocks} * block, int4}));
    if (part->layouts.empty()) {
      const std::uint64_t bytes = layout.weight_bytes();
      if (bytes >
          options_.weights_budget - std::min(options_.weights_budget, weights_bytes_.load())) {
        return absl::ResourceExhaustedError(absl::StrCat(
            info_.name, ": expected weights of at most ", options_.weights_budget,
            " bytes in the array's order, found ", weights_bytes_ + bytes, " and more"));
      }
      TANDEM_ASSIGN_OR_RETURN(part->weights, npu->Allocate(bytes));
      weights_bytes_ += bytes;
      const std::int64_t row_bytes = w.cols / (int4 ? 2 : 1);
      PackWeights(layout, w.values + part->first_row * row_bytes,
                  w.scales + part->first_row * (w.cols / kGroupSize),
                  part->weights.bytes().first(bytes));
      TANDEM_RETURN_IF_ERROR(part->weights.Flush(0, bytes));
    }
    TANDEM_ASSIGN_OR_RETURN(const NpuBuffer activations,
                            Shared(npu, &activations_, layout.activation_bytes()));
    TANDEM_ASSIGN_OR_RETURN(const NpuBuffer output, Shared(npu, &outputs_, layout.output_bytes()));
    TANDEM_ASSIGN_OR_RETURN(auto product, npu->Prepare(layout, part->weights, activations, output));
    part->layouts.push_back(layout);
    part->products.push_back(std::move(product));
  }
  return absl::OkStatus();
}

absl::Status NpuProductUnit::Prepare(const MatrixView& w, std::int64_t max_tokens) {
  const std::lock_guard lock(mutex_);
  return PrepareLocked(w, max_tokens);
}

void NpuProductUnit::Forget(const MatrixView& w) {
  const std::lock_guard lock(mutex_);
  ForgetLocked(w);
}

absl::Status NpuProductUnit::Multiply(const MatrixView& w, float* out) {
  const std::lock_guard lock(mutex_);
  return MultiplyLocked(w, out);
}

absl::Status NpuProductUnit::Once(const MatrixView& w, const QuantizedRows& x, std::int64_t cols,
                                  float* out) {
  const std::lock_guard lock(mutex_);
  // The input of a stage that runs is packed again behind this.
  const Input before = input_;
  TANDEM_RETURN_IF_ERROR(PrepareLocked(w, x.rows));
  input_ = {x, cols, false};
  const absl::Status status = MultiplyLocked(w, out);
  input_ = before;
  input_.packed = false;
  ForgetLocked(w);
  return status;
}

absl::Status NpuProductUnit::PrepareLocked(const MatrixView& w, std::int64_t max_tokens) {
  if (w.format != WeightFormat::kInt8 && w.format != WeightFormat::kInt4) {
    return absl::UnimplementedError(absl::StrCat(info_.name, ": expected int8 or int4 weights"));
  }
  TANDEM_ASSIGN_OR_RETURN(XrtNpu * npu, Open(w.format == WeightFormat::kInt4));
  const std::int64_t most =
      ProductLayout::kMostRowBlocks * std::int64_t{info_.array.rows} * kTileRows;
  Matrix& matrix = matrices_[w.values];
  for (std::int64_t first = 0, index = 0; first < w.rows; first += most, ++index) {
    if (index == static_cast<std::int64_t>(matrix.parts.size())) {
      matrix.parts.emplace_back().first_row = first;
    }
    const absl::Status status =
        PreparePart(npu, w, max_tokens, &matrix.parts[static_cast<std::size_t>(index)],
                    std::min(most, w.rows - first));
    if (status.ok()) continue;
    // Nobody will forget what was never whole.
    if (matrix.users == 0) Erase(w.values);
    return status;
  }
  ++matrix.users;
  return absl::OkStatus();
}

void NpuProductUnit::ForgetLocked(const MatrixView& w) {
  const auto matrix = matrices_.find(w.values);
  TANDEM_CHECK(matrix != matrices_.end());
  if (--matrix->second.users == 0) Erase(w.values);
}

void NpuProductUnit::Erase(const std::uint8_t* values) {
  for (const Part& part : matrices_.at(values).parts) weights_bytes_ -= part.weights.bytes().size();
  matrices_.erase(values);
}

absl::Status NpuProductUnit::SetInput(const QuantizedRows& x, std::int64_t cols) {
  const std::lock_guard lock(mutex_);
  input_ = {x, cols, false};
  return absl::OkStatus();
}

absl::Status NpuProductUnit::MultiplyPart(Part* part, std::int64_t rows, float* out) {
  const std::uint32_t blocks = TokenBlocks(input_.rows.rows);
  TANDEM_CHECK(blocks >= 1 && blocks <= part->layouts.size());
  const ProductLayout& layout = part->layouts[blocks - 1];
  NpuProduct& product = *part->products[blocks - 1];
  const std::int64_t tokens = input_.rows.rows;
  NpuBuffer& activations = activations_.at(layout.activation_bytes());
  const std::int64_t begun_ns = MonotonicNanoseconds();
  if (!input_.packed) {
    const std::int64_t stride = input_.rows.cols_padded;
    PackActivations(layout, tokens,
                    {input_.rows.plain, stride, input_.rows.scales, stride / kGroupSize},
                    activations.bytes().first(layout.activation_bytes()));
    TANDEM_RETURN_IF_ERROR(activations.Flush(0, layout.activation_bytes()));
    input_.packed = true;
  }
  const std::int64_t packed_ns = MonotonicNanoseconds();
  TANDEM_RETURN_IF_ERROR(product.Start());
  TANDEM_RETURN_IF_ERROR(product.Wait(Deadline::After(kLongestProduct)));
  const std::int64_t done_ns = MonotonicNanoseconds();
  NpuBuffer& output = outputs_.at(layout.output_bytes());
  TANDEM_RETURN_IF_ERROR(output.Fetch(0, layout.output_bytes()));
  UnpackOutput(layout, tokens, output.bytes().first(layout.output_bytes()), out + part->first_row,
               rows);
  products_run_.fetch_add(1, std::memory_order_relaxed);
  packing_ns_.fetch_add(packed_ns - begun_ns, std::memory_order_relaxed);
  running_ns_.fetch_add(done_ns - packed_ns, std::memory_order_relaxed);
  unpacking_ns_.fetch_add(MonotonicNanoseconds() - done_ns, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status NpuProductUnit::MultiplyLocked(const MatrixView& w, float* out) {
  const auto matrix = matrices_.find(w.values);
  TANDEM_CHECK(matrix != matrices_.end() && input_.cols == w.cols);
  for (Part& part : matrix->second.parts) {
    if (!lost_.ok()) return lost_;
    const absl::Status status = MultiplyPart(&part, w.rows, out);
    // A product that does not end, or fails, leaves the array in a state that nobody knows.
    if (!status.ok()) lost_ = absl::UnavailableError(status.message());
  }
  return lost_;
}

}  // namespace tandem::npu
