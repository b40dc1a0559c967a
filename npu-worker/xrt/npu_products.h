#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "lib/device/cpu/product_unit.h"
#include "lib/model/device_report.h"
#include "npu-worker/xrt/xrt_npu.h"

namespace tandem::npu {

struct NpuProductOptions {
  // A folder with a package for each generation and form of weights: "aie2_int8", "aie2p_int4", ...
  std::string kernels;
  // Memory for weights in the array's order.
  std::uint64_t weights_budget = 0;
};

// The CPU device's products on an NPU. Weights are copied into the array's order at Prepare, into
// memory of this process that the driver pins where it does, else into the driver's; matrices of
// many rows are cut into parts. A group's products run from one submission. A context is opened for
// each form of weights that comes. Activations are packed and sums unpacked by the calling thread.
class NpuProductUnit final : public ProductUnit {
 public:
  NpuProductUnit(NpuInfo info, NpuProductOptions options);
  ~NpuProductUnit() override;

  const std::string& name() const override { return info_.name; }
  // RESOURCE_EXHAUSTED past the budget.
  absl::Status Prepare(std::span<const MatrixView> group, std::int64_t max_tokens) override;
  void Forget(std::span<const MatrixView> group) override;
  absl::Status SetInput(const QuantizedRows& x, std::int64_t cols) override;
  absl::Status Multiply(std::span<const MatrixProduct> products) override;

  // A product by itself, between those of the stages.
  absl::Status Once(const MatrixView& w, const QuantizedRows& x, std::int64_t cols, float* out);

  const NpuInfo& info() const { return info_; }
  // What of a product takes how long, and how full the budget for weights is.
  DeviceReport Report() const;
  double running_seconds() const {
    return static_cast<double>(running_ns_.load(std::memory_order_relaxed)) * 1e-9;
  }
  // What is in the folder for this NPU and form of weights.
  absl::StatusOr<KernelPackage> LoadPackage(bool int4) const;
  // That products ran from.
  std::uint64_t submissions() const { return submissions_.load(std::memory_order_relaxed); }

 private:
  // Rows of a matrix that one product computes.
  struct Part {
    std::size_t matrix = 0;  // of its group
    std::int64_t first_row = 0;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::uint64_t weight_bytes = 0;
    NpuBuffer weights;
  };
  // Products of one submission, for one number of token blocks. The list, which is there where they
  // are more than one, goes before them.
  struct Ready {
    std::vector<ProductLayout> layouts;
    std::vector<std::unique_ptr<NpuCall>> products;
    std::unique_ptr<NpuRunList> list;
  };
  // The first parts of a group's matrices, or their second ones, and so on, of one form of weights.
  struct Batch {
    bool int4 = false;
    std::vector<Part> parts;
    // At index n - 1: for n blocks of tokens.
    std::vector<Ready> ready;
  };
  struct Group {
    std::size_t matrices = 0;
    std::vector<Batch> batches;
    int users = 0;
  };
  // The input of the products that follow, packed once for each form of weights that asks.
  struct Input {
    QuantizedRows rows;
    std::int64_t cols = 0;
    bool packed = false;
  };

  // The lock is held in all of these.
  absl::Status PrepareLocked(std::span<const MatrixView> group, std::int64_t max_tokens);
  void ForgetLocked(std::span<const MatrixView> group);
  absl::Status MultiplyLocked(std::span<const MatrixProduct> products);
  absl::StatusOr<XrtNpu*> Open(bool int4);
  // Copies the weights of all parts.
  absl::Status AddBatches(std::span<const MatrixView> matrices, Group* group);
  absl::StatusOr<Part> MakePart(XrtNpu* npu, const MatrixView& w, std::size_t matrix,
                                std::int64_t first_row);
  absl::StatusOr<NpuBuffer> AllocateWeights(XrtNpu* npu, std::uint64_t bytes);
  absl::Status MakeReady(Batch* batch, std::uint32_t blocks);
  // Buffers of one size are shared by what runs one after another: `place` in one submission.
  absl::StatusOr<NpuBuffer> Shared(XrtNpu* npu, std::uint64_t bytes, std::size_t place);
  void Erase(const MatrixView& first);
  std::uint32_t TokenBlocks(std::int64_t tokens) const;
  absl::Status RunBatch(Batch* batch, std::span<const MatrixProduct> products);

  const NpuInfo info_;
  const NpuProductOptions options_;
  std::mutex mutex_;
  // [int4]
  std::unique_ptr<XrtNpu> npus_[2];
  // Activations have a place of their own.
  static constexpr std::size_t kActivationsPlace = ~std::size_t{0};
  std::map<std::pair<std::uint64_t, std::size_t>, NpuBuffer> buffers_;
  // By where the values of a group's first matrix lie.
  std::unordered_map<const std::uint8_t*, Group> groups_;
  Input input_;
  // The first failure of a product, which all later ones repeat.
  absl::Status lost_;
  // What the driver said to the first memory that it did not pin, for Report, too.
  mutable std::mutex pinning_mutex_;
  absl::Status pinning_;
  std::atomic<std::uint64_t> weights_bytes_{0}, pinned_bytes_{0};
  std::atomic<std::uint64_t> submissions_{0};
  std::atomic<std::int64_t> packing_ns_{0}, running_ns_{0}, unpacking_ns_{0};
};

}  // namespace tandem::npu
