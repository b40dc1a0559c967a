#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/gpu-worker/kernel_runner.h"

namespace tandem {

// The forms in which kernels hand activations over (kernels/common/activations.glsl).
enum class ActivationForm : std::uint8_t { kFloat32, kQ8, kF16 };

// By the end of a kernel's name: "_q8", "_f16" or neither.
ActivationForm FormOf(const std::string& kernel);

// Rows of `cols` columns, a multiple of 32, and of 128 for kF16, whose layout holds `pad` rows, a
// multiple of 8.
struct ActivationShape {
  std::size_t rows;
  std::size_t cols;
  std::size_t pad;
};

// (rows, cols) in that form; room for pad rows of floats.
Bytes EncodeActivations(ActivationForm form, const ActivationShape& shape,
                        std::span<const float> values);
// What is held there, as floats (rows, cols).
std::vector<float> DecodeActivations(ActivationForm form, const ActivationShape& shape,
                                     const Bytes& bytes);
// Fails where an element is further from the expected one than the form explains, and with kQ8
// where a group's third number is not 8 * scale * sum. Rows behind `written` are expected to be
// zero bits.
void ExpectActivations(ActivationForm form, const ActivationShape& shape, std::size_t written,
                       const Bytes& bytes, std::span<const float> expected, double tolerance,
                       const std::string& what);

}  // namespace tandem
