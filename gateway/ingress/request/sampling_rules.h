#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/sample/sampler.h"

namespace tandem {

// The one place for what either API, HTTP or gRPC, lets a caller ask: the ports read the fields of
// their messages, these rules say what may stand in them. They also bound what one request adds to
// a step's message. docs/openai-api.md has them as a table.

inline constexpr std::int32_t kMaxLogprobs = 20;
inline constexpr std::size_t kMaxLogitBias = 1024;  // tokens

// As it was written: nothing is checked yet. Absent: the default.
struct SamplingWishes {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;  // -1 and 0: all
  std::optional<double> min_p;
  std::optional<double> frequency_penalty;
  std::optional<double> presence_penalty;
  std::vector<std::pair<std::int64_t, double>>
      logit_bias;  // token, bias; of a token the last counts
};

// InvalidArgument with the field's name (InvalidField) for what is out of its range. The seed and
// the log-probabilities of the result are the caller's to set.
absl::StatusOr<SamplingParams> CheckedSampling(const SamplingWishes& wishes);
// 0 to kMaxLogprobs; `field` is what the API calls it.
absl::StatusOr<std::int32_t> CheckedLogprobs(std::string_view field, std::int64_t logprobs);
// `least` to 2^31 - 1.
absl::StatusOr<std::int32_t> CheckedMaxTokens(std::string_view field, std::int64_t max_tokens,
                                              std::int64_t least);
// What a stop string may be; how many: RequestLimits.
absl::Status CheckStops(const std::vector<std::string>& stops);

}  // namespace tandem
