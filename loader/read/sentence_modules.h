#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// What sentence-transformers keeps beside an encoder: modules.json says what follows the encoder,
// each module in a folder with a config.json. Source: sentence_transformers/models/{Pooling,Dense,
// Normalize}.py. Errors are INVALID_ARGUMENT and name the key, what was expected and what was
// found, not the file.

// The folders of an encoder's modules: the transformer itself stands beside modules.json.
struct SentenceModules {
  std::string pooling;
  // None, or two.
  std::vector<std::string> dense;
};
// Takes the transformer, pooling, none or two dense modules and, or not, a normalisation, in this
// order; folders beside the file, none above or below.
absl::StatusOr<SentenceModules> ParseSentenceModules(std::string_view json);

// The pooling must be the mean over all tokens, of `hidden` values.
absl::Status CheckPoolingConfig(std::string_view json, std::int32_t hidden);

struct DenseConfig {
  std::int32_t in = 0;
  std::int32_t out = 0;
};
// A matrix alone: no bias, no activation.
absl::StatusOr<DenseConfig> ParseDenseConfig(std::string_view json);

}  // namespace tandem
