#include "npu-worker/xrt/npu_products.h"

#include <spdlog/spdlog.h>

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

// Of one product.
std::int64_t MostRows(const ArrayShape& array) {
  return ProductLayout::kMostRowBlocks * std::int64_t{array.rows} * kTileRows;
}

}  // namespace

NpuProductUnit::NpuProductUnit(NpuInfo info, NpuProductOptions options)
    : info_(std::move(info)), options_(std::move(options)) {}

NpuProductUnit::~NpuProductUnit() = default;

absl::StatusOr<KernelPackage> NpuProductUnit::LoadPackage(bool int4) const {
  const std::string folder =
      absl::StrCat(options_.kernels, "/", info_.array == kAie2Array ? "aie2" : "aie2p", "_",
                   int4 ? "int4" : "int8");
  TANDEM_ASSIGN_OR_RETURN(KernelPackage package, LoadKernelPackage(folder));
  if (package.kind == KernelKind::kProduct && package.int4 == int4) return package;
  return absl::InvalidArgumentError(
      absl::StrCat(folder, ": expected a product of such weights, found another package"));
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
  const std::lock_guard lock(pinning_mutex_);
  report.facts.push_back(
      {"memory of weights",
       pinning_.ok() ? "the worker's, pinned by the driver"
                     : absl::StrCat(pinned_bytes_.load() >> 20,
                                    " MiB the worker's, pinned by the driver, the rest the "
                                    "driver's: ",
                                    std::string(pinning_.message()))});
  report.parts = {{"packing activations", "host", seconds(packing_ns_)},
                  {"matrix products", "NPU", running_seconds()},
                  {"unpacking sums", "host", seconds(unpacking_ns_)}};
  return report;
}

std::uint32_t NpuProductUnit::TokenBlocks(std::int64_t tokens) const {
  return static_cast<std::uint32_t>(CeilDiv(static_cast<std::uint64_t>(tokens),
                                            std::uint64_t{info_.array.columns} * kTileTokens));
}

absl::StatusOr<NpuBuffer> NpuProductUnit::Shared(XrtNpu* npu, std::uint64_t bytes,
                                                 std::size_t place) {
  const auto found = buffers_.find({bytes, place});
  if (found != buffers_.end()) return found->second;
  TANDEM_ASSIGN_OR_RETURN(NpuBuffer buffer, npu->Allocate(bytes));
  return buffers_.emplace(std::pair(bytes, place), std::move(buffer)).first->second;
}

absl::StatusOr<NpuBuffer> NpuProductUnit::AllocateWeights(XrtNpu* npu, std::uint64_t bytes) {
  if (pinning_.ok()) {
    absl::StatusOr<NpuBuffer> pinned = npu->AllocatePinned(bytes);
    if (pinned.ok()) return pinned;
    // A limit that was reached, or a driver that pins nothing: the others are not tried.
    spdlog::info("{}: weights lie in the driver's memory from here on: {}", info_.name,
                 std::string(pinned.status().message()));
    const std::lock_guard lock(pinning_mutex_);
    pinning_ = pinned.status();
  }
  return npu->Allocate(bytes);
}

absl::StatusOr<NpuProductUnit::Part> NpuProductUnit::MakePart(XrtNpu* npu, const MatrixView& w,
                                                              std::size_t matrix,
                                                              std::int64_t first_row) {
  const bool int4 = w.format == WeightFormat::kInt4;
  Part part;
  part.matrix = matrix;
  part.first_row = first_row;
  part.rows = std::min(w.rows - first_row, MostRows(info_.array));
  part.cols = w.cols;
  // Weights lie alike for any number of tokens.
  TANDEM_ASSIGN_OR_RETURN(const ProductLayout layout,
                          ProductLayout::Make(info_.array, {part.rows, w.cols, 1, int4}));
  part.weight_bytes = layout.weight_bytes();
  if (part.weight_bytes >
      options_.weights_budget - std::min(options_.weights_budget, weights_bytes_.load())) {
    return absl::ResourceExhaustedError(absl::StrCat(
        info_.name, ": expected weights of at most ", options_.weights_budget,
        " bytes in the array's order, found ", weights_bytes_ + part.weight_bytes, " and more"));
  }
  TANDEM_ASSIGN_OR_RETURN(part.weights, AllocateWeights(npu, part.weight_bytes));
  const std::int64_t row_bytes = w.cols / (int4 ? 2 : 1);
  PackWeights(layout, w.values + first_row * row_bytes,
              w.scales + first_row * (w.cols / kGroupSize),
              part.weights.bytes().first(part.weight_bytes));
  TANDEM_RETURN_IF_ERROR(part.weights.Flush(0, part.weight_bytes));
  weights_bytes_ += part.weight_bytes;
  if (part.weights.pinned()) pinned_bytes_ += part.weight_bytes;
  return part;
}

absl::Status NpuProductUnit::AddBatches(std::span<const MatrixView> matrices, Group* group) {
  group->matrices = matrices.size();
  const std::int64_t most = MostRows(info_.array);
  for (std::int64_t index = 0;; ++index) {
    const std::size_t begun = group->batches.size();
    for (std::size_t matrix = 0; matrix < matrices.size(); ++matrix) {
      const MatrixView& w = matrices[matrix];
      if (index * most >= w.rows) continue;
      const bool int4 = w.format == WeightFormat::kInt4;
      TANDEM_ASSIGN_OR_RETURN(XrtNpu * npu, Open(int4));
      std::size_t batch = begun;
      while (batch < group->batches.size() && group->batches[batch].int4 != int4) ++batch;
      if (batch == group->batches.size()) group->batches.emplace_back().int4 = int4;
      TANDEM_ASSIGN_OR_RETURN(Part part, MakePart(npu, w, matrix, index * most));
      group->batches[batch].parts.push_back(std::move(part));
    }
    if (group->batches.size() == begun) return absl::OkStatus();
  }
}

absl::Status NpuProductUnit::MakeReady(Batch* batch, std::uint32_t blocks) {
  TANDEM_ASSIGN_OR_RETURN(XrtNpu * npu, Open(batch->int4));
  const std::int64_t tokens = std::int64_t{blocks} * info_.array.columns * kTileTokens;
  Ready ready;
  for (std::size_t place = 0; place < batch->parts.size(); ++place) {
    const Part& part = batch->parts[place];
    TANDEM_ASSIGN_OR_RETURN(
        const ProductLayout layout,
        ProductLayout::Make(info_.array, {part.rows, part.cols, tokens, batch->int4}));
    TANDEM_ASSIGN_OR_RETURN(const NpuBuffer activations,
                            Shared(npu, layout.activation_bytes(), kActivationsPlace));
    TANDEM_ASSIGN_OR_RETURN(const NpuBuffer output, Shared(npu, layout.output_bytes(), place));
    TANDEM_ASSIGN_OR_RETURN(auto product, npu->Prepare(layout, part.weights, activations, output));
    ready.layouts.push_back(layout);
    ready.products.push_back(std::move(product));
  }
  if (ready.products.size() > 1) {
    TANDEM_ASSIGN_OR_RETURN(ready.list, npu->NewRunList());
    for (const auto& product : ready.products) TANDEM_RETURN_IF_ERROR(ready.list->Add(*product));
  }
  batch->ready.push_back(std::move(ready));
  return absl::OkStatus();
}

absl::Status NpuProductUnit::Prepare(std::span<const MatrixView> group, std::int64_t max_tokens) {
  const std::lock_guard lock(mutex_);
  return PrepareLocked(group, max_tokens);
}

void NpuProductUnit::Forget(std::span<const MatrixView> group) {
  const std::lock_guard lock(mutex_);
  ForgetLocked(group);
}

absl::Status NpuProductUnit::Multiply(std::span<const MatrixProduct> products) {
  const std::lock_guard lock(mutex_);
  return MultiplyLocked(products);
}

absl::Status NpuProductUnit::Once(const MatrixView& w, const QuantizedRows& x, std::int64_t cols,
                                  float* out) {
  const std::lock_guard lock(mutex_);
  // The input of a stage that runs is packed again behind this.
  const Input before = input_;
  TANDEM_RETURN_IF_ERROR(PrepareLocked({&w, 1}, x.rows));
  input_ = {x, cols, false};
  const MatrixProduct product = {&w, out};
  const absl::Status status = MultiplyLocked({&product, 1});
  input_ = before;
  input_.packed = false;
  ForgetLocked({&w, 1});
  return status;
}

absl::Status NpuProductUnit::PrepareLocked(std::span<const MatrixView> matrices,
                                           std::int64_t max_tokens) {
  for (const MatrixView& w : matrices) {
    if (w.format != WeightFormat::kInt8 && w.format != WeightFormat::kInt4) {
      return absl::UnimplementedError(absl::StrCat(info_.name, ": expected int8 or int4 weights"));
    }
  }
  Group& group = groups_[matrices.front().values];
  absl::Status status = group.users > 0 ? absl::OkStatus() : AddBatches(matrices, &group);
  for (Batch& batch : group.batches) {
    for (auto blocks = static_cast<std::uint32_t>(batch.ready.size()) + 1;
         status.ok() && blocks <= TokenBlocks(max_tokens); ++blocks) {
      status = MakeReady(&batch, blocks);
    }
  }
  if (status.ok()) {
    TANDEM_CHECK(group.matrices == matrices.size());
    ++group.users;
  } else if (group.users == 0) {
    // Nobody will forget what was never whole.
    Erase(matrices.front());
  }
  return status;
}

void NpuProductUnit::ForgetLocked(std::span<const MatrixView> matrices) {
  const auto group = groups_.find(matrices.front().values);
  TANDEM_CHECK(group != groups_.end());
  if (--group->second.users == 0) Erase(matrices.front());
}

void NpuProductUnit::Erase(const MatrixView& first) {
  for (const Batch& batch : groups_.at(first.values).batches) {
    for (const Part& part : batch.parts) {
      weights_bytes_ -= part.weight_bytes;
      if (part.weights.pinned()) pinned_bytes_ -= part.weight_bytes;
    }
  }
  groups_.erase(first.values);
}

absl::Status NpuProductUnit::SetInput(const QuantizedRows& x, std::int64_t cols) {
  const std::lock_guard lock(mutex_);
  input_ = {x, cols, false};
  return absl::OkStatus();
}

absl::Status NpuProductUnit::RunBatch(Batch* batch, std::span<const MatrixProduct> products) {
  const std::int64_t tokens = input_.rows.rows;
  const std::uint32_t blocks = TokenBlocks(tokens);
  TANDEM_CHECK(blocks >= 1 && blocks <= batch->ready.size());
  const Ready& ready = batch->ready[blocks - 1];
  const std::int64_t begun_ns = MonotonicNanoseconds();
  if (!input_.packed) {
    const ProductLayout& layout = ready.layouts.front();
    NpuBuffer& activations = buffers_.at({layout.activation_bytes(), kActivationsPlace});
    const std::int64_t stride = input_.rows.cols_padded;
    PackActivations(layout, tokens,
                    {input_.rows.plain, stride, input_.rows.scales, stride / kGroupSize},
                    activations.bytes().first(layout.activation_bytes()));
    TANDEM_RETURN_IF_ERROR(activations.Flush(0, layout.activation_bytes()));
    input_.packed = true;
  }
  const std::int64_t packed_ns = MonotonicNanoseconds();
  const Deadline deadline =
      Deadline::After(kLongestProduct * static_cast<std::int64_t>(ready.products.size()));
  if (ready.list != nullptr) {
    TANDEM_RETURN_IF_ERROR(ready.list->Start());
    TANDEM_RETURN_IF_ERROR(ready.list->Wait(deadline));
  } else {
    TANDEM_RETURN_IF_ERROR(ready.products.front()->Start());
    TANDEM_RETURN_IF_ERROR(ready.products.front()->Wait(deadline));
  }
  const std::int64_t done_ns = MonotonicNanoseconds();
  for (std::size_t place = 0; place < batch->parts.size(); ++place) {
    const Part& part = batch->parts[place];
    const ProductLayout& layout = ready.layouts[place];
    NpuBuffer& output = buffers_.at({layout.output_bytes(), place});
    TANDEM_RETURN_IF_ERROR(output.Fetch(0, layout.output_bytes()));
    const MatrixProduct& product = products[part.matrix];
    UnpackOutput(layout, tokens, output.bytes().first(layout.output_bytes()),
                 product.out + part.first_row, product.weights->rows);
  }
  submissions_.fetch_add(1, std::memory_order_relaxed);
  packing_ns_.fetch_add(packed_ns - begun_ns, std::memory_order_relaxed);
  running_ns_.fetch_add(done_ns - packed_ns, std::memory_order_relaxed);
  unpacking_ns_.fetch_add(MonotonicNanoseconds() - done_ns, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status NpuProductUnit::MultiplyLocked(std::span<const MatrixProduct> products) {
  const auto group = groups_.find(products.front().weights->values);
  TANDEM_CHECK(group != groups_.end() && group->second.matrices == products.size() &&
               input_.cols == products.front().weights->cols);
  for (Batch& batch : group->second.batches) {
    if (!lost_.ok()) return lost_;
    const absl::Status status = RunBatch(&batch, products);
    // A product that does not end, or fails, leaves the array in a state that nobody knows.
    if (!status.ok()) lost_ = absl::UnavailableError(status.message());
  }
  return lost_;
}

}  // namespace tandem::npu
