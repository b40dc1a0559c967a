#include "tests/golden/golden_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/base/status_macros.h"
#include "lib/device/reference/reference.h"

namespace tandem {
namespace {

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

// What the reference model makes of the set's prompts. It takes longer than most devices, and many
// variants compare with the same: kept for the process.
const std::vector<GoldenRows>& ReferenceRows(const GoldenSet& set, WeightFormat format,
                                             const ReferenceModel& reference) {
  static auto* const known =
      new std::map<std::pair<std::filesystem::path, WeightFormat>, std::vector<GoldenRows>>;
  std::vector<GoldenRows>& rows = (*known)[{set.folder, format}];
  if (rows.empty()) {
    for (const GoldenPrompt& prompt : set.prompts)
      rows.push_back(RowsOfLogits(reference.Logits(prompt.ids), set.config.vocab_size));
  }
  return rows;
}

}  // namespace

void AddDifference(const GoldenRows& expected, std::span<const float> found, std::int32_t vocab,
                   GoldenDifference* difference) {
  const auto width = static_cast<std::size_t>(vocab);
  TANDEM_CHECK(expected.top_ids.size() / kGoldenTop * width == found.size());
  for (std::size_t row = 0; row < found.size() / width; ++row) {
    const std::vector<double> q = LogSoftmax(found.subspan(row * width, width));
    for (std::size_t i = row * kGoldenTop; i < (row + 1) * kGoldenTop; ++i) {
      const double delta =
          std::abs(expected.top_logprobs[i] - q[static_cast<std::size_t>(expected.top_ids[i])]);
      // A NaN must not pass for a small difference.
      difference->max_top10 =
          std::isfinite(delta) ? std::max(difference->max_top10, delta) : INFINITY;
    }
    ++difference->positions;
    const std::size_t first = row * kGoldenTop;
    if (expected.top_logprobs[first] - expected.top_logprobs[first + 1] > kClearMargin) {
      ++difference->greedy_compared;
      if (std::max_element(q.begin(), q.end()) - q.begin() != expected.top_ids[first])
        ++difference->greedy_different;
    }
    if (expected.logits.empty()) continue;
    const std::vector<double> p =
        LogSoftmax(std::span(expected.logits).subspan(row * width, width));
    for (std::size_t i = 0; i < width; ++i) difference->mean_kl += std::exp(p[i]) * (p[i] - q[i]);
    ++difference->kl_positions;
  }
}

void FinishDifference(GoldenDifference* difference) {
  difference->mean_kl = difference->kl_positions == 0
                            ? NAN
                            : difference->mean_kl / static_cast<double>(difference->kl_positions);
}

absl::StatusOr<GoldenDifference> RunGolden(Device* device, const GoldenSet& set,
                                           const GoldenVariant& variant) {
  TANDEM_ASSIGN_OR_RETURN(const auto regions, GoldenRegions(set, variant.format));
  std::optional<ReferenceModel> reference;
  const bool compare_with_reference = variant.format != WeightFormat::kBf16;
  if (compare_with_reference || variant.from_hidden_states) {
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
  options.hidden_states = variant.from_hidden_states;
  TANDEM_ASSIGN_OR_RETURN(const auto runner,
                          ModelRunner::Make(device, set.config, regions, options));
  GoldenDifference difference;
  for (std::size_t p = 0; p < set.prompts.size(); ++p) {
    const GoldenPrompt& prompt = set.prompts[p];
    TANDEM_ASSIGN_OR_RETURN(auto found, runner->Prefill(0, prompt.ids, variant.chunk));
    if (variant.from_hidden_states) found = reference->Unembed(runner->TakeHiddenStates());
    const GoldenRows& expected = compare_with_reference
                                     ? ReferenceRows(set, variant.format, *reference)[p]
                                     : prompt.expected;
    AddDifference(expected, found, set.config.vocab_size, &difference);
    if (!reference.has_value() && variant.activations == ActivationType::kFloat32) {
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
  const std::string kl =
      std::isnan(difference.mean_kl) ? "-" : absl::StrFormat("%.1e", difference.mean_kl);
  const std::string greedy =
      difference.greedy_compared == 0
          ? "-"
          : absl::StrFormat("%d/%d", difference.greedy_compared - difference.greedy_different,
                            difference.greedy_compared);
  return absl::StrFormat(
      "golden device=%s set=%s weights=%s activations=%s kv=%s stages=%d chunk=%d positions=%d "
      "max_top10=%.6f "
      "mean_kl=%s greedy=%s",
      device.info().kind, set.name, std::string(WeightFormatName(variant.format)),
      std::string(NameOf(variant.activations)), std::string(NameOf(variant.kv_type)).c_str(),
      variant.stages.empty() ? 1 : static_cast<int>(variant.stages.size()), variant.chunk,
      difference.positions, difference.max_top10, kl, greedy);
}

}  // namespace tandem
