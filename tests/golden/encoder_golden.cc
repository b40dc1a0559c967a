#include "tests/golden/encoder_golden.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "lib/base/status_macros.h"
#include "lib/device/reference/reference.h"
#include "lib/worker/embedding_head.h"

namespace tandem {
namespace {

constexpr std::int32_t kMostTokens = 704;

std::vector<float> UnitLength(std::span<const double> values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  std::vector<float> out;
  for (const double value : values) out.push_back(static_cast<float>(value / std::sqrt(squares)));
  return out;
}

double Difference(std::span<const float> expected, std::span<const float> found) {
  TANDEM_CHECK(expected.size() == found.size());
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double delta = std::abs(static_cast<double>(expected[i]) - static_cast<double>(found[i]));
    // A NaN must not pass for a small difference.
    largest = std::isfinite(delta) ? std::max(largest, delta) : INFINITY;
  }
  return largest;
}

std::vector<float> ReferenceEmbedding(const ReferenceModel& model, const GoldenText& text) {
  const std::vector<float> values = model.Embedding(text.ids);
  return UnitLength(std::vector<double>(values.begin(), values.end()));
}

// What a worker makes of the hidden states of a text.
std::vector<float> Pool(std::span<const float> states, std::size_t hidden, EmbeddingHead* head) {
  std::vector<double> sums(hidden);
  for (std::size_t i = 0; i < states.size(); ++i)
    sums[i % hidden] += static_cast<double>(states[i]);
  head->Apply(sums);
  return UnitLength(sums);
}

}  // namespace

absl::StatusOr<double> RunGoldenEncoder(Device* device, const GoldenEncoder& encoder,
                                        const GoldenVariant& variant) {
  const ModelConfig& config = encoder.set.config;
  TANDEM_ASSIGN_OR_RETURN(const auto regions, GoldenRegions(encoder.set, variant.format));
  TANDEM_ASSIGN_OR_RETURN(const ReferenceModel reference, ReferenceModel::Make(config, regions));
  TANDEM_ASSIGN_OR_RETURN(EmbeddingHead head, EmbeddingHead::Make(*regions.front()));
  const RunnerOptions options = {
      .stages = variant.stages,
      .limits = {.max_tokens = kMostTokens,
                 .max_sequences = 2,
                 .max_logit_rows = kMostTokens,
                 .max_blocks_per_sequence = kMostTokens / kKvBlockTokens},
      .activations = variant.activations,
      .kv_type = variant.kv_type,
      .hidden_states = true};
  TANDEM_ASSIGN_OR_RETURN(const auto runner, ModelRunner::Make(device, config, regions, options));
  double largest = 0;
  for (const GoldenText& text : encoder.texts) {
    const RunnerShare share{0, text.ids};
    TANDEM_RETURN_IF_ERROR(runner->Step({&share, 1}).status());
    runner->End(0);
    const std::vector<float> found =
        Pool(runner->TakeHiddenStates(), static_cast<std::size_t>(config.hidden_size), &head);
    const bool whole = variant.format == WeightFormat::kBf16;
    largest = std::max(
        largest, Difference(whole ? text.embedding : ReferenceEmbedding(reference, text), found));
  }
  return largest;
}

absl::StatusOr<double> ReferenceGoldenEncoder(const GoldenEncoder& encoder) {
  TANDEM_ASSIGN_OR_RETURN(const auto regions, GoldenRegions(encoder.set, WeightFormat::kBf16));
  TANDEM_ASSIGN_OR_RETURN(const ReferenceModel reference,
                          ReferenceModel::Make(encoder.set.config, regions));
  double largest = 0;
  for (const GoldenText& text : encoder.texts)
    largest = std::max(largest, Difference(text.embedding, ReferenceEmbedding(reference, text)));
  return largest;
}

}  // namespace tandem
