#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"
#include "lib/base/status_macros.h"
#include "lib/device/conformance/conformance_cases.h"
#include "lib/weights/random_model.h"

namespace tandem {
namespace {

ModelConfig BaseConfig() {
  ModelConfig config;
  config.name = "conformance";
  config.vocab_size = 160;
  config.max_positions = 4096;
  config.rms_norm_eps = 1e-6f;
  return config;
}

ConformanceShape Shape(std::string name, std::int32_t hidden, std::int32_t ffn, std::int32_t heads,
                       std::int32_t kv_heads, std::int32_t head_dim, std::int32_t window,
                       float factor, std::vector<bool> global) {
  ModelConfig config = BaseConfig();
  config.hidden_size = hidden;
  config.ffn_size = ffn;
  config.num_layers = static_cast<std::int32_t>(global.size());
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.sliding_window = window;
  config.query_pre_attn_scalar = static_cast<float>(head_dim) * 0.75f;
  config.rope_factor_global = factor;
  config.layer_is_global = std::move(global);
  return {std::move(name), std::move(config)};
}

}  // namespace

std::vector<ConformanceShape> ConformanceShapes() {
  return {
      // A window far smaller than the prompt and no multiple of a block; scaled global positions.
      Shape("Dim32Window9Scaled", 96, 160, 4, 2, 32, 9, 8.0f, {false, true, false}),
      // Heads wider than the residual stream.
      Shape("Dim64WideHeads", 64, 128, 6, 2, 64, 20, 1.0f, {false, true}),
      // A head for every key head; an odd number of groups of 32.
      Shape("Dim128NoSharing", 352, 224, 2, 2, 128, 16, 8.0f, {true, false}),
      // One key head for all; a window larger than the prompt.
      Shape("Dim256OneKeyHead", 192, 544, 4, 1, 256, 512, 1.0f, {false, true}),
      // Whole chunks of 128 columns everywhere, an even and an odd number of them.
      Shape("Dim64Chunks", 256, 640, 6, 3, 64, 30, 1.0f, {false, true}),
  };
}

ModelConfig ConformanceConfig() {
  return Shape("", 96, 160, 4, 2, 32, 9, 8.0f, {false, true}).config;
}

absl::StatusOr<ConformanceModel> MakeConformanceModel(const ModelConfig& config,
                                                      WeightFormat format) {
  TANDEM_ASSIGN_OR_RETURN(const RandomModel random,
                          MakeRandomModel(config, format, /*seed=*/20261120));
  ConformanceModel model;
  model.config = config;
  for (const auto& [name, region] : random.regions) model.regions.push_back(region);
  TANDEM_ASSIGN_OR_RETURN(ReferenceModel reference, ReferenceModel::Make(config, model.regions));
  model.reference = std::make_shared<const ReferenceModel>(std::move(reference));
  return model;
}

std::vector<std::int32_t> RandomTokens(const ModelConfig& config, std::size_t count,
                                       std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> tokens(count);
  for (std::int32_t& token : tokens) {
    token = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(config.vocab_size));
  }
  return tokens;
}

Difference Compare(std::span<const float> expected, std::span<const float> found) {
  if (expected.size() != found.size() || expected.empty()) return {INFINITY, INFINITY};
  double squares = 0;
  double error_squares = 0;
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double e = static_cast<double>(expected[i]);
    const double delta = std::abs(e - static_cast<double>(found[i]));
    if (!std::isfinite(delta)) return {INFINITY, INFINITY};
    squares += e * e;
    error_squares += delta * delta;
    largest = std::max(largest, delta);
  }
  const auto count = static_cast<double>(expected.size());
  const double rms = std::max(std::sqrt(squares / count), 1e-30);
  return {largest / rms, std::sqrt(error_squares / count) / rms};
}

ActivationType ActivationsOf(const ConformanceTarget& target) {
  return target.float32_activations ? ActivationType::kFloat32 : ActivationType::kInt8;
}

double ToleranceOf(const ConformanceTolerances& tolerances, WeightFormat format) {
  if (format == WeightFormat::kInt8) return tolerances.int8;
  return format == WeightFormat::kInt4 ? tolerances.int4 : tolerances.bf16;
}

std::string VariantName(WeightFormat format, ActivationType activations, KvType kv_type) {
  std::string name(WeightFormatName(format));
  if (activations == ActivationType::kInt8) name += "_int8activations";
  if (activations == ActivationType::kAuto) name += "_autoactivations";
  if (kv_type != KvType::kFloat32) absl::StrAppend(&name, "_", std::string(NameOf(kv_type)), "kv");
  return name;
}

}  // namespace tandem
