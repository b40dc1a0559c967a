#include "lib/worker/embedding_head.h"

#include <array>

#include "lib/base/status_macros.h"
#include "lib/model/tensors.h"

namespace tandem {
namespace {

// Sums beside each other, which the compiler can hold in vectors.
constexpr std::size_t kLanes = 8;

double Dot(std::span<const float> weights, std::span<const double> values) {
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= weights.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += static_cast<double>(weights[i + lane]) * values[i + lane];
  }
  double total = 0;
  for (; i < weights.size(); ++i) total += static_cast<double>(weights[i]) * values[i];
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

absl::StatusOr<EmbeddingHead::Matrix> EmbeddingHead::Read(const Region& region, TensorKind kind) {
  TANDEM_ASSIGN_OR_RETURN(const TensorView view, region.Find({kind, -1}));
  Matrix matrix;
  matrix.cols = static_cast<std::size_t>(view.shape.cols);
  matrix.weights.resize(static_cast<std::size_t>(view.shape.rows) * matrix.cols);
  for (std::int64_t row = 0; row < view.shape.rows; ++row) {
    DequantizeRow(view, row,
                  std::span(matrix.weights)
                      .subspan(static_cast<std::size_t>(row) * matrix.cols, matrix.cols));
  }
  return matrix;
}

absl::StatusOr<EmbeddingHead> EmbeddingHead::Make(const Region& region) {
  EmbeddingHead head;
  TANDEM_ASSIGN_OR_RETURN(head.up_, Read(region, TensorKind::kDenseUp));
  TANDEM_ASSIGN_OR_RETURN(head.down_, Read(region, TensorKind::kDenseDown));
  head.between_.resize(head.down_.cols);
  return head;
}

void EmbeddingHead::Multiply(const Matrix& matrix, std::span<const double> from,
                             std::span<double> to) {
  TANDEM_CHECK(from.size() == matrix.cols && to.size() * matrix.cols == matrix.weights.size());
  for (std::size_t row = 0; row < to.size(); ++row)
    to[row] = Dot(std::span(matrix.weights).subspan(row * matrix.cols, matrix.cols), from);
}

void EmbeddingHead::Apply(std::span<double> values) {
  Multiply(up_, values, between_);
  Multiply(down_, between_, values);
}

}  // namespace tandem
