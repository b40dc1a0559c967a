#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "lib/device/cpu/kernels.h"

namespace tandem {

// Another processor that multiplies matrices for the CPU device's stages, in the CPU device's int8
// arithmetic: an NPU. A CPU device that is made with one computes every product there and nothing
// of it itself; programs with other activations than int8 it refuses. SetInput and Multiply come
// from one thread, Prepare and Forget from any; the unit outlives the device.
class ProductUnit {
 public:
  virtual ~ProductUnit() = default;
  // For messages: "NPU Phoenix".
  virtual const std::string& name() const = 0;

  // Makes ready to multiply `w`, which stays where it is until it is forgotten as often as it was
  // prepared, by up to `max_tokens` rows of activations. Asked when a program is compiled.
  virtual absl::Status Prepare(const MatrixView& w, std::int64_t max_tokens) = 0;
  virtual void Forget(const MatrixView& w) = 0;

  // x becomes the input of the products that follow: `cols` values of each row.
  virtual absl::Status SetInput(const QuantizedRows& x, std::int64_t cols) = 0;
  // out (rows of x, rows of w) = x times the transpose of w, which was prepared. UNAVAILABLE: the
  // unit is lost, the process should exit.
  virtual absl::Status Multiply(const MatrixView& w, float* out) = 0;
};

}  // namespace tandem
