#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
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

// The CPU device's products on an NPU. Weights are copied into the array's order at Prepare;
// matrices of many rows are cut into parts. A context is opened for each form of weights that
// comes. Activations are packed and sums unpacked by the calling thread.
class NpuProductUnit final : public ProductUnit {
 public:
  NpuProductUnit(NpuInfo info, NpuProductOptions options);
  ~NpuProductUnit() override;

  const std::string& name() const override { return info_.name; }
  // RESOURCE_EXHAUSTED past the budget.
  absl::Status Prepare(const MatrixView& w, std::int64_t max_tokens) override;
  void Forget(const MatrixView& w) override;
  absl::Status SetInput(const QuantizedRows& x, std::int64_t cols) override;
  absl::Status Multiply(const MatrixView& w, float* out) override;

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
  std::uint64_t products_run() const { return products_run_.load(std::memory_order_relaxed); }

 private:
  // Rows [first_row, ...) of a matrix, for one number of token blocks each.
  struct Part {
    std::int64_t first_row = 0;
    NpuBuffer weights;
    // At index n - 1: for n blocks of tokens.
    std::vector<ProductLayout> layouts;
    std::vector<std::unique_ptr<NpuProduct>> products;
  };
  struct Matrix {
    std::vector<Part> parts;
    int users = 0;
  };
  // The input of the products that follow, packed once for each form of weights that asks.
  struct Input {
    QuantizedRows rows;
    std::int64_t cols = 0;
    bool packed = false;
  };

  // The lock is held in all of these.
  absl::Status PrepareLocked(const MatrixView& w, std::int64_t max_tokens);
  void ForgetLocked(const MatrixView& w);
  absl::Status MultiplyLocked(const MatrixView& w, float* out);
  absl::StatusOr<XrtNpu*> Open(bool int4);
  absl::Status PreparePart(XrtNpu* npu, const MatrixView& w, std::int64_t max_tokens, Part* part,
                           std::int64_t rows);
  // Buffers of one size are shared: one product runs at a time.
  absl::StatusOr<NpuBuffer> Shared(XrtNpu* npu, std::map<std::uint64_t, NpuBuffer>* buffers,
                                   std::uint64_t bytes);
  void Erase(const std::uint8_t* values);
  std::uint32_t TokenBlocks(std::int64_t tokens) const;
  absl::Status MultiplyPart(Part* part, std::int64_t rows, float* out);

  const NpuInfo info_;
  const NpuProductOptions options_;
  std::mutex mutex_;
  // [int4]
  std::unique_ptr<XrtNpu> npus_[2];
  std::map<std::uint64_t, NpuBuffer> activations_, outputs_;
  // By where a matrix's values lie.
  std::unordered_map<const std::uint8_t*, Matrix> matrices_;
  Input input_;
  // The first failure of a product, which all later ones repeat.
  absl::Status lost_;
  std::atomic<std::uint64_t> weights_bytes_{0};
  std::atomic<std::uint64_t> products_run_{0};
  std::atomic<std::int64_t> packing_ns_{0}, running_ns_{0}, unpacking_ns_{0};
};

}  // namespace tandem::npu
