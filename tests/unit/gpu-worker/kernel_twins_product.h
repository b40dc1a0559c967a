#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpu-worker/kernels/dot/product_params.h"
#include "tests/unit/gpu-worker/activation_forms.h"
#include "tests/unit/gpu-worker/test_matrix.h"

namespace tandem {

// What the twins of products share.

inline constexpr float kPoison = 1234.5f;  // what stands in an output before

// Matrices one behind the other, as one product.
struct ProductCase {
  std::vector<std::int64_t> rows;  // of each matrix, one to three
  std::int64_t cols;
  std::int32_t tokens;  // of the step
  std::uint32_t bucket;
  std::uint32_t pad;  // tokens of the layout
  std::uint32_t parts = 1;
  bool extreme = false;  // all bits of the weights are set, and activations the least
};

// Both planes of all matrices in one piece of memory, with odd bytes between them.
struct Planes {
  std::vector<TestMatrix> matrices;
  Bytes memory;
  kernels::ProductParams params{};
};

Planes MakePlanes(const std::string& kernel, const ProductCase& shape, TestRandom* random);

// What a product makes with decoded activations `x`: row r of token t at t * rows + r.
std::vector<double> Multiply(const Planes& planes, ActivationForm form, const ProductCase& shape,
                             const std::vector<float>& x);

double Geglu(double gate, double up);

// What ends a half layer for one token, as post_norm.comp does it: what goes in beside the branch,
// and what comes out.
struct HalfEnd {
  static constexpr float kEpsilon = 1e-3f;
  std::vector<float> weight, next_weight;
  std::vector<float> x;  // the second of three rows
  std::vector<float> residual, normed;
};

// `branch` is what the half adds; the next norm's weights are up to `largest`.
HalfEnd EndHalf(const std::vector<double>& branch, float largest, TestRandom* random);

}  // namespace tandem
