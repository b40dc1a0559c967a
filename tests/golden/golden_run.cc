#include "tests/golden/golden_run.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/base/status_macros.h"
#include "lib/device/reference/reference.h"

namespace tandem {
namespace {

std::vector<double> LogSoftmax(std::span<const float> logits) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - best);
  const double log_sum = best + std::log(sum);
  std::vector<double> out(logits.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = logits[i] - log_sum;
  return out;
}

absl::Status AddGreedy(ModelRunner* runner, const GoldenPrompt& prompt,
                       std::span<const float> last_row, GoldenDifference* difference) {
  std::vector<float> logits(last_row.begin(), last_row.end());
  for (std::size_t i = 0; i < prompt.greedy.size(); ++i) {
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    if (prompt.greedy_margin[i] > kClearMargin) {
      ++difference->greedy_compared;
      if (best != prompt.greedy[i]) ++difference->greedy_different;
    }
    if (i + 1 == prompt.greedy.size()) break;
    const RunnerShare share{0, {prompt.greedy[i]}};
    TANDEM_ASSIGN_OR_RETURN(logits, runner->Step({&share, 1}));
  }
  return absl::OkStatus();
}

}  // namespace

void AddDifference(std::span<const float> expected, std::span<const float> found,
                   std::int32_t vocab, GoldenDifference* difference) {
  TANDEM_CHECK(expected.size() == found.size());
  const auto width = static_cast<std::size_t>(vocab);
  for (std::size_t at = 0; at < expected.size(); at += width) {
    const std::vector<double> p = LogSoftmax(expected.subspan(at, width));
    const std::vector<double> q = LogSoftmax(found.subspan(at, width));
    std::vector<std::size_t> order(width);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + 10, order.end(),
                      [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
    for (int i = 0; i < 10; ++i) {
      const double delta = std::abs(p[order[i]] - q[order[i]]);
      // A NaN must not pass for a small difference.
      difference->max_top10 =
          std::isfinite(delta) ? std::max(difference->max_top10, delta) : INFINITY;
    }
    double kl = 0;
    for (std::size_t i = 0; i < width; ++i) kl += std::exp(p[i]) * (p[i] - q[i]);
    difference->mean_kl += kl;
    ++difference->positions;
  }
}

void FinishDifference(GoldenDifference* difference) {
  if (difference->positions > 0) difference->mean_kl /= static_cast<double>(difference->positions);
}

absl::StatusOr<GoldenDifference> RunGolden(Device* device, const GoldenSet& set,
                                           const GoldenVariant& variant) {
  TANDEM_ASSIGN_OR_RETURN(const auto regions, GoldenRegions(set, variant.format));
  std::optional<ReferenceModel> reference;
  if (variant.format != WeightFormat::kBf16) {
    TANDEM_ASSIGN_OR_RETURN(reference, ReferenceModel::Make(set.config, regions));
  }
  RunnerOptions options;
  options.stages = variant.stages;
  options.limits = {.max_tokens = variant.chunk,
                    .max_sequences = 2,
                    .max_logit_rows = variant.chunk,
                    .max_blocks_per_sequence = 32};
  options.activations = variant.activations;
  options.kv_type = variant.kv_type;
  TANDEM_ASSIGN_OR_RETURN(const auto runner,
                          ModelRunner::Make(device, set.config, regions, options));
  GoldenDifference difference;
  for (const GoldenPrompt& prompt : set.prompts) {
    TANDEM_ASSIGN_OR_RETURN(const auto found, runner->Prefill(0, prompt.ids, variant.chunk));
    const std::vector<float> expected = reference ? reference->Logits(prompt.ids) : prompt.logits;
    AddDifference(expected, found, set.config.vocab_size, &difference);
    if (!reference && variant.activations == ActivationType::kFloat32) {
      const auto row = std::span(found).last(static_cast<std::size_t>(set.config.vocab_size));
      TANDEM_RETURN_IF_ERROR(AddGreedy(runner.get(), prompt, row, &difference));
    }
    runner->End(0);
  }
  FinishDifference(&difference);
  return difference;
}

std::string DescribeGolden(const Device& device, const GoldenSet& set, const GoldenVariant& variant,
                           const GoldenDifference& difference) {
  return absl::StrFormat(
      "golden device=%s set=%s weights=%s activations=%s kv=%s stages=%d positions=%d "
      "max_top10=%.6f mean_kl=%.3e "
      "greedy_different=%d/%d",
      device.info().kind, set.name, std::string(WeightFormatName(variant.format)),
      variant.activations == ActivationType::kInt8 ? "int8" : "float32",
      variant.kv_type == KvType::kFloat16 ? "float16" : "float32",
      variant.stages.empty() ? 1 : static_cast<int>(variant.stages.size()), difference.positions,
      difference.max_top10, difference.mean_kl, difference.greedy_different,
      difference.greedy_compared);
}

}  // namespace tandem
