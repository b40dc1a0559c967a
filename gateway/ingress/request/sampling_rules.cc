#include "gateway/ingress/request/sampling_rules.h"

#include <algorithm>
#include <limits>

#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/stop_matcher.h"

namespace tandem {
namespace {

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

// A range with or without its ends.
struct Range {
  std::string_view name;
  double lo;
  double hi;
  bool with_lo = true;
  bool with_hi = true;
};
constexpr Range kTemperature = {"temperature", 0, 2};
constexpr Range kTopP = {"top_p", 0, 1, /*with_lo=*/false};
constexpr Range kMinP = {"min_p", 0, 1, /*with_lo=*/true, /*with_hi=*/false};
constexpr Range kFrequencyPenalty = {"frequency_penalty", -2, 2};
constexpr Range kPresencePenalty = {"presence_penalty", -2, 2};
constexpr double kMaxBias = 100;

absl::Status Read(const Range& range, const std::optional<double>& value, float& out) {
  if (!value.has_value()) return absl::OkStatus();
  // Looked at as the sampler will see it, and so that NaN is in no range.
  const auto number = static_cast<float>(*value);
  const bool over = range.with_lo ? number >= range.lo : number > range.lo;
  const bool under = range.with_hi ? number <= range.hi : number < range.hi;
  if (over && under) {
    out = number;
    return absl::OkStatus();
  }
  return InvalidField(
      range.name,
      Cat("'", range.name, "': expected a number ", range.with_lo ? "from " : "over ", range.lo,
          range.with_hi ? " up to " : " to under ", range.hi, ", found ", *value));
}

absl::Status ReadLogitBias(const SamplingWishes& wishes, SamplingParams& sampling) {
  if (wishes.logit_bias.size() > kMaxLogitBias) {
    return InvalidField("logit_bias", Cat("'logit_bias': expected at most ", kMaxLogitBias,
                                          " tokens, found ", wishes.logit_bias.size()));
  }
  auto& entries = sampling.logit_bias;
  for (const auto& [token, bias] : wishes.logit_bias) {
    if (token < 0 || token > kMaxInt32) {
      return InvalidField("logit_bias", Cat("'logit_bias': expected token ids, found ", token));
    }
    if (!(bias >= -kMaxBias && bias <= kMaxBias)) {
      return InvalidField(
          "logit_bias", Cat("'logit_bias': expected a number from ", -kMaxBias, " up to ", kMaxBias,
                            " for token ", token, ", found ", bias));
    }
    entries.emplace_back(static_cast<std::int32_t>(token), static_cast<float>(bias));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  // From the end, so that the last one of a token stays.
  entries.erase(entries.begin(), std::unique(entries.rbegin(), entries.rend(), same).base());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SamplingParams> CheckedSampling(const SamplingWishes& wishes) {
  SamplingParams sampling;
  TANDEM_RETURN_IF_ERROR(Read(kTemperature, wishes.temperature, sampling.temperature));
  TANDEM_RETURN_IF_ERROR(Read(kTopP, wishes.top_p, sampling.top_p));
  TANDEM_RETURN_IF_ERROR(Read(kMinP, wishes.min_p, sampling.min_p));
  TANDEM_RETURN_IF_ERROR(
      Read(kFrequencyPenalty, wishes.frequency_penalty, sampling.frequency_penalty));
  TANDEM_RETURN_IF_ERROR(
      Read(kPresencePenalty, wishes.presence_penalty, sampling.presence_penalty));
  const std::int64_t top_k = wishes.top_k.value_or(0);
  if (top_k < -1 || top_k > kMaxInt32) {
    return InvalidField(
        "top_k", Cat("'top_k': expected an integer from -1 up to ", kMaxInt32, ", found ", top_k));
  }
  // -1 is another spelling of "all".
  sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(top_k, 0));
  TANDEM_RETURN_IF_ERROR(ReadLogitBias(wishes, sampling));
  return sampling;
}

absl::StatusOr<std::int32_t> CheckedLogprobs(std::string_view field, std::int64_t logprobs) {
  if (logprobs >= 0 && logprobs <= kMaxLogprobs) return static_cast<std::int32_t>(logprobs);
  return InvalidField(field, Cat("'", field, "': expected an integer from 0 up to ", kMaxLogprobs,
                                 ", found ", logprobs));
}

absl::StatusOr<std::int32_t> CheckedMaxTokens(std::string_view field, std::int64_t max_tokens,
                                              std::int64_t least) {
  if (max_tokens >= least && max_tokens <= kMaxInt32) {
    return static_cast<std::int32_t>(max_tokens);
  }
  return InvalidField(field, Cat("'", field, "': expected an integer from ", least, " up to ",
                                 kMaxInt32, ", found ", max_tokens));
}

absl::Status CheckStops(const std::vector<std::string>& stops) {
  const absl::Status valid = StopMatcher::Create(stops).status();
  return valid.ok() ? valid : InvalidField("stop", Cat("'stop': ", valid.message()));
}

}  // namespace tandem
