#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "gpu-worker/kernels/dot/product_params.h"
#include "gpu-worker/stage/device_context.h"
#include "gpu-worker/stage/product.h"
#include "gpu-worker/stage/recorder.h"
#include "gpu-worker/stage/tuning.h"

namespace tandem {

// The matrix kernel for a bucket: the last that it reaches, or the first.
const MatrixTuning& MatrixTuningFor(std::uint32_t bucket);

// One dispatch of a product, of up to three matrices, in the kernel that the caller chooses.
struct ProductDispatch {
  const DeviceContext context;
  std::string format;
  kernels::ProductParams params;
  std::uint32_t total_rows = 0;  // of the product, in the output
  std::uint32_t count = 0;       // kRowsAreTokens or kRowsAreLogits
  double bytes = 0;
  bool chained = false;

  // These kernels run at many times the rate of plain arithmetic, by which jobs are cut.
  WorkEstimate Work(std::uint32_t bucket) const;

  // kQ8: dot.comp, or dot_rows.comp, of which there is none for chains.
  absl::StatusOr<DispatchPlan> Dot(std::uint32_t bucket) const;
  bool DotChains() const { return !DotInRows(); }
  absl::StatusOr<DispatchPlan> DotGeglu(std::uint32_t bucket) const;
  absl::StatusOr<DispatchPlan> DotPostNorm(const Product::PostNormOf& norm, bool next) const;

  // kF16: kernels/matrix.
  absl::StatusOr<DispatchPlan> Matrix(const MatrixKernel& kernel, std::uint32_t bucket,
                                      std::uint32_t pad, std::uint32_t parts,
                                      float output_scale) const;
  absl::StatusOr<DispatchPlan> MatrixGeglu(std::uint32_t bucket, std::uint32_t pad,
                                           std::uint32_t output_pad, float output_scale) const;

 private:
  bool DotInRows() const;
  // A subgroup's lanes, at most, that share a row.
  std::uint32_t Lanes(const DotTuning& tuning) const;
  // Of a kernel that has a variant for chains, all of whose workgroups count themselves.
  absl::StatusOr<DispatchPlan> Plan(std::string kernel, std::vector<std::uint32_t> constants,
                                    vulkan::Groups groups) const;
};

}  // namespace tandem
