#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/device/conformance/model_runner.h"
#include "lib/device/device.h"
#include "tests/golden/golden_case.h"

namespace tandem {

// How far logits are from expected ones, over all positions.
struct GoldenDifference {
  // largest |difference of log-probability| over the ten best tokens of the expected distribution
  double max_top10 = 0;
  // mean over positions of KL(expected || found), in nats; NaN for a trimmed set
  double mean_kl = 0;
  std::int64_t positions = 0;
  std::int64_t kl_positions = 0;  // those with a whole distribution to compare with
  // best tokens whose margin is over kClearMargin, of prompts and continuations
  std::int64_t greedy_compared = 0;
  std::int64_t greedy_different = 0;
};
inline constexpr double kClearMargin = 0.05;

// `found`: (rows, vocab). Adds to *difference; mean_kl is a sum until FinishDifference.
void AddDifference(const GoldenRows& expected, std::span<const float> found, std::int32_t vocab,
                   GoldenDifference* difference);
void FinishDifference(GoldenDifference* difference);

struct GoldenVariant {
  WeightFormat format = WeightFormat::kBf16;
  ActivationType activations = ActivationType::kFloat32;
  KvType kv_type = KvType::kFloat32;
  // Empty: one stage.
  std::vector<StageSpec> stages = {};
  // Tokens of a prefill step.
  std::int32_t chunk = 64;
  // The head of the float32 reference on the device's hidden states, instead of the device's own.
  bool from_hidden_states = false;
};

// Runs every prompt of the set on the device: all positions of the prompt, then (bf16 only, where
// the reference's greedy tokens hold) the greedy continuation, fed with the reference's tokens.
// bf16 is compared with the set's own logits; int8 and int4 with the float32 reference model on the
// dequantised weights.
absl::StatusOr<GoldenDifference> RunGolden(Device* device, const GoldenSet& set,
                                           const GoldenVariant& variant);

// One line for people and scripts, of key=value: "golden device=cpu set=data_tiny weights=bf16 ...
// max_top10=0.000012 mean_kl=- greedy=160/160" (greedy: equal / compared; "-": nothing to compare
// with).
std::string DescribeGolden(const Device& device, const GoldenSet& set, const GoldenVariant& variant,
                           const GoldenDifference& difference);

}  // namespace tandem
