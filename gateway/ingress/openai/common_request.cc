#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "gateway/ingress/openai/error.h"
#include "gateway/ingress/openai/json_fields.h"
#include "gateway/ingress/openai/request.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"
#include "lib/text/stop_matcher.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::int32_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMaxLogitBias = 1024;

absl::Status ReadFloat(const JsonFields& fields, std::string_view name, double lo, double hi,
                       float& out) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<double> value, fields.Number(name, lo, hi));
  if (value.has_value()) out = static_cast<float>(*value);
  return absl::OkStatus();
}

absl::Status ReadBool(const JsonFields& fields, std::string_view name, bool& out) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> value, fields.Bool(name));
  if (value.has_value()) out = *value;
  return absl::OkStatus();
}

absl::Status ReadInt32(const JsonFields& fields, std::string_view name, std::int32_t lo,
                       std::int32_t hi, std::int32_t& out) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::int64_t> value, fields.Integer(name, lo, hi));
  if (value.has_value()) out = static_cast<std::int32_t>(*value);
  return absl::OkStatus();
}

absl::Status ReadLogitBias(const JsonFields& fields, SamplingParams& sampling) {
  const Json* bias = fields.Find("logit_bias");
  if (bias == nullptr) return absl::OkStatus();
  if (!bias->is_object()) return fields.WrongType("logit_bias", "an object of token id to number");
  if (bias->size() > kMaxLogitBias) {
    return InvalidField("logit_bias", Cat("'logit_bias': expected at most ", kMaxLogitBias,
                                          " entries, found ", bias->size()));
  }
  for (const auto& [key, value] : bias->items()) {
    std::int32_t token = 0;
    if (!absl::SimpleAtoi(key, &token) || token < 0) {
      return InvalidField("logit_bias",
                          Cat("'logit_bias': expected token ids as keys, found '", key, "'"));
    }
    const double number = value.is_number() ? value.get<double>() : 1e9;
    if (!(number >= -100 && number <= 100)) {
      return InvalidField("logit_bias",
                          Cat("'logit_bias': expected a number from -100 to 100 for token ", token,
                              ", found ", value.dump()));
    }
    sampling.logit_bias.emplace_back(token, static_cast<float>(number));
  }
  std::stable_sort(sampling.logit_bias.begin(), sampling.logit_bias.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  // "7" and "07" are one token: the last one counts, as with duplicate keys.
  auto& entries = sampling.logit_bias;
  for (std::size_t i = 1; i < entries.size();) {
    if (entries[i - 1].first == entries[i].first) {
      entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(i - 1));
    } else {
      ++i;
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const JsonFields& fields, CommonRequest& request) {
  SamplingParams& sampling = request.sampling;
  TANDEM_RETURN_IF_ERROR(ReadFloat(fields, "temperature", 0, 2, sampling.temperature));
  TANDEM_RETURN_IF_ERROR(ReadFloat(fields, "top_p", 0, 1, sampling.top_p));
  if (sampling.top_p <= 0) {
    return InvalidField("top_p", "'top_p': expected a number over 0 and up to 1, found 0");
  }
  TANDEM_RETURN_IF_ERROR(ReadInt32(fields, "top_k", -1, kMaxInt32, sampling.top_k));
  sampling.top_k = std::max(sampling.top_k, 0);  // -1 is another spelling of "all"
  TANDEM_RETURN_IF_ERROR(ReadFloat(fields, "min_p", 0, 1, sampling.min_p));
  if (sampling.min_p >= 1) {
    return InvalidField("min_p", "'min_p': expected a number from 0 and under 1, found 1");
  }
  TANDEM_RETURN_IF_ERROR(ReadFloat(fields, "frequency_penalty", -2, 2, sampling.frequency_penalty));
  TANDEM_RETURN_IF_ERROR(ReadFloat(fields, "presence_penalty", -2, 2, sampling.presence_penalty));
  TANDEM_RETURN_IF_ERROR(ReadLogitBias(fields, sampling));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::int64_t> seed,
                          fields.Integer("seed", std::numeric_limits<std::int64_t>::min(),
                                         std::numeric_limits<std::int64_t>::max()));
  request.has_seed = seed.has_value();
  if (seed.has_value()) sampling.seed = static_cast<std::uint64_t>(*seed);
  return absl::OkStatus();
}

absl::Status ReadStops(const JsonFields& fields, std::vector<std::string>& stops) {
  const Json* stop = fields.Find("stop");
  if (stop == nullptr) return absl::OkStatus();
  if (stop->is_string()) {
    stops.push_back(stop->get<std::string>());
  } else if (stop->is_array()) {
    if (stop->size() > kMaxStopStrings) {
      return InvalidField("stop", Cat("'stop': expected at most ", kMaxStopStrings,
                                      " strings, found ", stop->size()));
    }
    for (const Json& entry : *stop) {
      if (!entry.is_string()) {
        return InvalidField("stop", Cat("'stop': expected strings, found ", JsonTypeName(entry)));
      }
      stops.push_back(entry.get<std::string>());
    }
  } else {
    return fields.WrongType("stop", "a string or an array of strings");
  }
  const absl::Status valid = StopMatcher::Create(stops).status();
  return valid.ok() ? valid : InvalidField("stop", Cat("'stop': ", valid.message()));
}

absl::Status ReadStream(const JsonFields& fields, CommonRequest& request) {
  TANDEM_RETURN_IF_ERROR(ReadBool(fields, "stream", request.stream));
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!options->is_object()) return fields.WrongType("stream_options", "an object");
  if (!request.stream) {
    return InvalidField("stream_options", "'stream_options' is allowed only with 'stream': true");
  }
  for (const auto& [name, value] : options->items()) {
    // Obfuscation pads chunks against eavesdroppers; there is nothing to switch off here.
    if (name != "include_usage" && name != "include_obfuscation") {
      const std::string path = Cat("stream_options.", name);
      return InvalidField(path, Cat("unknown request field '", path, "'"), "unknown_parameter");
    }
  }
  return ReadBool(JsonFields(*options, "stream_options."), "include_usage", request.include_usage);
}

}  // namespace

absl::StatusOr<CommonRequest> ParseCommonRequest(const Json& body) {
  const JsonFields fields(body, "");
  CommonRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.model, fields.NeededString("model"));
  if (request.model.empty()) {
    return InvalidField("model", "'model': expected the model's name, found an empty string");
  }
  TANDEM_RETURN_IF_ERROR(ReadSampling(fields, request));
  TANDEM_RETURN_IF_ERROR(ReadInt32(fields, "n", 1, kMaxChoices, request.n));
  TANDEM_RETURN_IF_ERROR(ReadStops(fields, request.stops));
  TANDEM_RETURN_IF_ERROR(ReadStream(fields, request));
  TANDEM_RETURN_IF_ERROR(ReadBool(fields, "ignore_eos", request.ignore_eos));
  TANDEM_RETURN_IF_ERROR(
      ReadBool(fields, "return_tokens_as_token_ids", request.return_tokens_as_token_ids));
  return request;
}

}  // namespace tandem
