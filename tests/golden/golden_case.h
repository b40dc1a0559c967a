#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/model/config.h"
#include "lib/weights/region.h"

namespace tandem {

// A golden set: a small checkpoint, prompts, and the logits and greedy tokens that the reference
// implementation gives for them.

inline constexpr std::size_t kGoldenTop = 10;

// What is expected at some positions.
struct GoldenRows {
  // The ten best tokens, best first, and their natural log-probabilities: (rows, kGoldenTop).
  std::vector<std::int32_t> top_ids;
  std::vector<double> top_logprobs;
  // (rows, vocab); empty in the trimmed sets.
  std::vector<float> logits;
};
GoldenRows RowsOfLogits(std::vector<float> logits, std::int32_t vocab);
std::vector<double> LogSoftmax(std::span<const float> logits);

struct GoldenPrompt {
  std::string text;
  std::vector<std::int32_t> ids;
  // The tokens that follow.
  std::vector<std::int32_t> greedy;
  // Between the two best logits at each of them.
  std::vector<double> greedy_margin;
  // A row for each of ids.
  GoldenRows expected;
};

struct GoldenSet {
  // "data_tiny", "full_like1b": the collection and the folder.
  std::string name;
  std::filesystem::path folder;
  ModelConfig config;
  std::vector<GoldenPrompt> prompts;
};

// Folders of golden sets: all in tests/golden/data, and all in ../shared/golden where that is
// there. Paths are relative to the repository's root, where the tests run.
std::vector<std::filesystem::path> FindGoldenSets();
// A test name for a folder: "data_tiny".
std::string GoldenSetName(const std::filesystem::path& folder);

absl::StatusOr<GoldenSet> LoadGoldenSet(const std::filesystem::path& folder);
// All regions of the set's checkpoint, its matrices in `format`.
absl::StatusOr<std::vector<std::shared_ptr<const Region>>> GoldenRegions(const GoldenSet& set,
                                                                         WeightFormat format);

}  // namespace tandem
