#include "lib/device/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/model/attention_rows.h"

namespace tandem {
namespace {

// y[t][r] = sum over c of w[r][c] * x[t][c].
std::vector<float> Product(std::span<const float> w, TensorShape shape, std::span<const float> x) {
  const auto rows = static_cast<std::size_t>(shape.rows);
  const auto cols = static_cast<std::size_t>(shape.cols);
  const std::size_t tokens = x.size() / cols;
  std::vector<float> y(tokens * rows);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        sum += static_cast<double>(w[r * cols + c]) * static_cast<double>(x[t * cols + c]);
      }
      y[t * rows + r] = static_cast<float>(sum);
    }
  }
  return y;
}

// Gemma3RMSNorm; the stored weights are 1 + w already. `x` holds vectors of weights.size() values.
std::vector<float> RmsNorm(std::span<const float> x, std::span<const float> weights, float eps) {
  std::vector<float> y(x.size());
  for (std::size_t begin = 0; begin < x.size(); begin += weights.size()) {
    double squares = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      squares += static_cast<double>(x[begin + i]) * static_cast<double>(x[begin + i]);
    }
    const double scale =
        1.0 / std::sqrt(squares / static_cast<double>(weights.size()) + static_cast<double>(eps));
    for (std::size_t i = 0; i < weights.size(); ++i) {
      y[begin + i] = static_cast<float>(static_cast<double>(x[begin + i]) * scale *
                                        static_cast<double>(weights[i]));
    }
  }
  return y;
}

// Rotates `heads` vectors of each token: the first half of a vector with its second half.
// Frequencies are float32, as in the reference implementation.
void Rope(std::vector<float>* x, std::size_t heads, std::size_t head_dim, float theta,
          float factor) {
  const std::size_t half = head_dim / 2;
  const std::size_t tokens = x->size() / (heads * head_dim);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t i = 0; i < half; ++i) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
      const float frequency = 1.0f / std::pow(theta, exponent) / factor;
      const float angle = static_cast<float>(t) * frequency;
      const double c = std::cos(static_cast<double>(angle));
      const double s = std::sin(static_cast<double>(angle));
      for (std::size_t h = 0; h < heads; ++h) {
        float* v = x->data() + (t * heads + h) * head_dim;
        const double a = v[i];
        const double b = v[i + half];
        v[i] = static_cast<float>(a * c - b * s);
        v[i + half] = static_cast<float>(b * c + a * s);
      }
    }
  }
}

void AddTo(std::vector<float>* residual, const std::vector<float>& delta) {
  for (std::size_t i = 0; i < delta.size(); ++i) (*residual)[i] += delta[i];
}

double GeluTanh(double x) {
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  return 0.5 * x * (1.0 + std::tanh(kSqrtTwoOverPi * (x + 0.044715 * x * x * x)));
}

}  // namespace

absl::StatusOr<ReferenceModel> ReferenceModel::Make(
    const ModelConfig& config, const std::vector<std::shared_ptr<const Region>>& regions) {
  ReferenceModel model;
  model.config_ = config;
  for (const auto& region : regions) {
    for (const TensorEntry& entry : region->manifest().tensors) {
      TANDEM_ASSIGN_OR_RETURN(const TensorView view, region->Find(entry.id));
      Matrix matrix{view.shape, {}};
      matrix.values.resize(static_cast<std::size_t>(view.shape.rows * view.shape.cols));
      for (std::int64_t row = 0; row < view.shape.rows; ++row) {
        DequantizeRow(view, row,
                      std::span(matrix.values)
                          .subspan(static_cast<std::size_t>(row * view.shape.cols),
                                   static_cast<std::size_t>(view.shape.cols)));
      }
      model.tensors_[{entry.id.kind, entry.id.layer}] = std::move(matrix);
    }
  }
  for (const TensorId& id : AllTensors(config)) {
    if (!model.tensors_.contains({id.kind, id.layer})) {
      return absl::InvalidArgumentError(
          absl::StrCat("reference model: expected tensor '", TensorName(id), "', found none"));
    }
  }
  return model;
}

const ReferenceModel::Matrix& ReferenceModel::Get(TensorKind kind, std::int32_t layer) const {
  const auto found = tensors_.find({kind, layer});
  TANDEM_CHECK(found != tensors_.end());
  return found->second;
}

std::vector<float> ReferenceModel::Embed(std::span<const std::int32_t> tokens) const {
  const Matrix& table = Get(TensorKind::kEmbedding);
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  const float scale = static_cast<float>(std::sqrt(static_cast<double>(config_.hidden_size)));
  std::vector<float> out(tokens.size() * hidden);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    for (std::size_t i = 0; i < hidden; ++i) {
      out[t * hidden + i] = table.values[static_cast<std::size_t>(tokens[t]) * hidden + i] * scale;
    }
  }
  return out;
}

void ReferenceModel::RunHalves(std::int32_t first_half, std::int32_t last_half,
                               std::vector<float>* residual) const {
  for (std::int32_t half = first_half; half < last_half; ++half) {
    if (half % 2 == 0) {
      Output(half / 2, Attend(half / 2, Project(half / 2, *residual)), residual);
    } else {
      FeedForward(half / 2, residual);
    }
  }
}

std::vector<float> ReferenceModel::Weigh(std::int32_t layer, const std::vector<float>& queries,
                                         const std::vector<float>& keys,
                                         const std::vector<float>& values) const {
  const auto heads = static_cast<std::size_t>(config_.num_heads);
  const auto kv_heads = static_cast<std::size_t>(config_.num_kv_heads);
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  const bool global = config_.layer_is_global[static_cast<std::size_t>(layer)];
  const auto window = static_cast<std::size_t>(config_.sliding_window);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.query_pre_attn_scalar));
  const std::size_t tokens = queries.size() / (heads * dim);
  std::vector<float> out(queries.size());
  std::vector<double> scores(tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::size_t first = global || t + 1 <= window ? 0 : t + 1 - window;
    const std::size_t reach = global ? tokens : std::min(tokens, t + window);
    const std::size_t end = config_.bidirectional ? reach : t + 1;
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t kv = h / (heads / kv_heads);
      double best = -INFINITY;
      for (std::size_t s = first; s < end; ++s) {
        double dot = 0;
        for (std::size_t i = 0; i < dim; ++i) {
          dot += static_cast<double>(queries[(t * heads + h) * dim + i]) *
                 static_cast<double>(keys[(s * kv_heads + kv) * dim + i]);
        }
        scores[s] = dot * scale;
        best = std::max(best, scores[s]);
      }
      double total = 0;
      for (std::size_t s = first; s < end; ++s) total += scores[s] = std::exp(scores[s] - best);
      for (std::size_t i = 0; i < dim; ++i) {
        double sum = 0;
        for (std::size_t s = first; s < end; ++s) {
          sum += scores[s] * static_cast<double>(values[(s * kv_heads + kv) * dim + i]);
        }
        out[(t * heads + h) * dim + i] = static_cast<float>(sum / total);
      }
    }
  }
  return out;
}

std::vector<float> ReferenceModel::Project(std::int32_t layer,
                                           std::span<const float> residual) const {
  const std::vector<float> x =
      RmsNorm(residual, Get(TensorKind::kAttentionNorm, layer).values, config_.rms_norm_eps);
  const std::size_t tokens = residual.size() / static_cast<std::size_t>(config_.hidden_size);
  const auto columns = static_cast<std::size_t>(ProjectedColumns(config_));
  std::vector<float> out(tokens * columns);
  std::size_t at = 0;
  for (const TensorKind kind : {TensorKind::kQuery, TensorKind::kKey, TensorKind::kValue}) {
    const Matrix& w = Get(kind, layer);
    const std::vector<float> part = Product(w.values, w.shape, x);
    const std::size_t width = part.size() / tokens;
    for (std::size_t t = 0; t < tokens; ++t)
      std::copy_n(part.data() + t * width, width, out.data() + t * columns + at);
    at += width;
  }
  return out;
}

std::vector<float> ReferenceModel::Attend(std::int32_t layer,
                                          std::span<const float> projected) const {
  const bool global = config_.layer_is_global[static_cast<std::size_t>(layer)];
  const float theta = global ? config_.rope_theta_global : config_.rope_theta_local;
  const float factor = global ? config_.rope_factor_global : 1.0f;
  const auto dim = static_cast<std::size_t>(config_.head_dim);
  const auto heads = static_cast<std::size_t>(config_.num_heads);
  const auto kv_heads = static_cast<std::size_t>(config_.num_kv_heads);
  const auto columns = static_cast<std::size_t>(ProjectedColumns(config_));
  const std::size_t tokens = projected.size() / columns;
  const auto part = [&](std::size_t first_head, std::size_t count) {
    std::vector<float> rows(tokens * count * dim);
    for (std::size_t t = 0; t < tokens; ++t) {
      std::copy_n(projected.data() + t * columns + first_head * dim, count * dim,
                  rows.data() + t * count * dim);
    }
    return rows;
  };
  const auto norm = [&](TensorKind kind, const std::vector<float>& x) {
    return RmsNorm(x, Get(kind, layer).values, config_.rms_norm_eps);
  };
  std::vector<float> q = norm(TensorKind::kQueryNorm, part(0, heads));
  std::vector<float> k = norm(TensorKind::kKeyNorm, part(heads, kv_heads));
  Rope(&q, heads, dim, theta, factor);
  Rope(&k, kv_heads, dim, theta, factor);
  return Weigh(layer, q, k, part(heads + kv_heads, kv_heads));
}

void ReferenceModel::Output(std::int32_t layer, std::span<const float> attended,
                            std::vector<float>* residual) const {
  const Matrix& w = Get(TensorKind::kAttentionOutput, layer);
  const std::vector<float> o = Product(w.values, w.shape, attended);
  AddTo(residual,
        RmsNorm(o, Get(TensorKind::kPostAttentionNorm, layer).values, config_.rms_norm_eps));
}

void ReferenceModel::FeedForward(std::int32_t layer, std::vector<float>* residual) const {
  const Matrix& w_gate = Get(TensorKind::kFfnGate, layer);
  const Matrix& w_up = Get(TensorKind::kFfnUp, layer);
  const Matrix& w_down = Get(TensorKind::kFfnDown, layer);
  const float eps = config_.rms_norm_eps;
  const std::vector<float> x = RmsNorm(*residual, Get(TensorKind::kFfnNorm, layer).values, eps);
  std::vector<float> gate = Product(w_gate.values, w_gate.shape, x);
  const std::vector<float> up = Product(w_up.values, w_up.shape, x);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    gate[i] =
        static_cast<float>(GeluTanh(static_cast<double>(gate[i])) * static_cast<double>(up[i]));
  }
  const std::vector<float> down = Product(w_down.values, w_down.shape, gate);
  AddTo(residual, RmsNorm(down, Get(TensorKind::kPostFfnNorm, layer).values, eps));
}

std::vector<float> ReferenceModel::Unembed(std::span<const float> hidden_states) const {
  const Matrix& table = Get(TensorKind::kEmbedding);
  return Product(table.values, table.shape, hidden_states);
}

std::vector<float> ReferenceModel::Head(std::span<const float> residual) const {
  return Unembed(RmsNorm(residual, Get(TensorKind::kFinalNorm).values, config_.rms_norm_eps));
}

std::vector<float> ReferenceModel::HiddenStates(std::span<const std::int32_t> tokens) const {
  std::vector<float> residual = Embed(tokens);
  RunHalves(0, 2 * config_.num_layers, &residual);
  return RmsNorm(residual, Get(TensorKind::kFinalNorm).values, config_.rms_norm_eps);
}

std::vector<float> ReferenceModel::Embedding(std::span<const std::int32_t> tokens) const {
  const std::vector<float> states = HiddenStates(tokens);
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  std::vector<double> sums(hidden);
  for (std::size_t i = 0; i < states.size(); ++i)
    sums[i % hidden] += static_cast<double>(states[i]);
  std::vector<float> mean(hidden);
  for (std::size_t i = 0; i < hidden; ++i)
    mean[i] = static_cast<float>(sums[i] / static_cast<double>(tokens.size()));
  if (config_.dense_size == 0) return mean;
  const Matrix& up = Get(TensorKind::kDenseUp);
  const Matrix& down = Get(TensorKind::kDenseDown);
  return Product(down.values, down.shape, Product(up.values, up.shape, mean));
}

std::vector<float> ReferenceModel::Logits(std::span<const std::int32_t> tokens) const {
  std::vector<float> residual = Embed(tokens);
  RunHalves(0, 2 * config_.num_layers, &residual);
  return Head(residual);
}

}  // namespace tandem
