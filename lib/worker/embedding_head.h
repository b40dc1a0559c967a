#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/weights/region.h"

namespace tandem {

// The two matrices behind the mean of an encoder's hidden states (ModelConfig::dense_size), on the
// processor: a few million products for a whole text. They have neither bias nor activation, so
// sums may go through them as well as means. One thread.
class EmbeddingHead {
 public:
  // `region`: the embedding's. NOT_FOUND when it has no such matrices.
  static absl::StatusOr<EmbeddingHead> Make(const Region& region);

  // Puts in place of `values` (hidden) what the matrices make of them. Allocates nothing.
  void Apply(std::span<double> values);

 private:
  struct Matrix {
    std::size_t cols = 0;
    // (rows, cols).
    std::vector<float> weights;
  };
  EmbeddingHead() = default;
  static absl::StatusOr<Matrix> Read(const Region& region, TensorKind kind);
  static void Multiply(const Matrix& matrix, std::span<const double> from, std::span<double> to);

  Matrix up_;
  Matrix down_;
  // (dense).
  std::vector<double> between_;
};

}  // namespace tandem
