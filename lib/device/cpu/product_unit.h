#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "lib/device/cpu/kernels.h"

namespace tandem {

// out (rows of x, rows of w) = x times the transpose of w.
struct MatrixProduct {
  const MatrixView* weights = nullptr;
  float* out = nullptr;
};

// Another processor that multiplies matrices for the CPU device's stages, in the CPU device's int8
// arithmetic: an NPU. A CPU device that is made with one computes every product there and nothing
// of it itself; programs with other activations than int8 it refuses. SetInput and Multiply come
// from one thread, Prepare and Forget from any; the unit outlives the device.
//
// Matrices come in groups: those that multiply one input, and so can be computed together (queries,
// keys and values; gate and up). A matrix is in one group only.
class ProductUnit {
 public:
  virtual ~ProductUnit() = default;
  // For messages: "NPU Phoenix".
  virtual const std::string& name() const = 0;

  // Makes ready to multiply the matrices, which stay where they are until they are forgotten as
  // often as they were prepared, by up to `max_tokens` rows of activations. Asked when a program is
  // compiled.
  virtual absl::Status Prepare(std::span<const MatrixView> group, std::int64_t max_tokens) = 0;
  virtual void Forget(std::span<const MatrixView> group) = 0;

  // x becomes the input of the products that follow: `cols` values of each row.
  virtual absl::Status SetInput(const QuantizedRows& x, std::int64_t cols) = 0;
  // All products of a group that was prepared, in its order. UNAVAILABLE: the unit is lost, the
  // process should exit.
  virtual absl::Status Multiply(std::span<const MatrixProduct> products) = 0;
};

}  // namespace tandem
