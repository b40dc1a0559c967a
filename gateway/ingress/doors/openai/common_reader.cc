#include "gateway/ingress/doors/openai/openai_reader.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 24> kCommonFields = {"model",
                                                            "temperature",
                                                            "top_p",
                                                            "top_k",
                                                            "min_p",
                                                            "seed",
                                                            "stop",
                                                            "n",
                                                            "max_tokens",
                                                            "logprobs",
                                                            "logit_bias",
                                                            "frequency_penalty",
                                                            "presence_penalty",
                                                            "stream",
                                                            "stream_options",
                                                            "ignore_eos",
                                                            "guided_json",
                                                            "guided_regex",
                                                            "guided_choice",
                                                            "guided_grammar",
                                                            "structured_outputs",
                                                            "grammar",
                                                            "json_schema",
                                                            "return_tokens_as_token_ids"};

absl::Status ReadStream(const JsonFields& fields, InferenceRequest& request) {
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("stream", request.stream));
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
  return JsonFields(*options, "stream_options.").ReadBool("include_usage", request.include_usage);
}

}  // namespace

// Log-probabilities and max_tokens are the endpoints' own.
absl::StatusOr<InferenceRequest> ReadOpenAiCommon(const JsonFields& fields) {
  InferenceRequest request;
  if (fields.Find("model") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.model, fields.NeededString("model"));
  }
  TANDEM_RETURN_IF_ERROR(ReadSampling(fields, request));
  std::optional<std::int64_t> n;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("n", n));
  if (n.value_or(1) < 1 || n.value_or(1) > kMaxChoices) {
    return InvalidField("n",
                        Cat("'n': expected an integer from 1 up to ", kMaxChoices, ", found ", *n));
  }
  request.n = static_cast<std::int32_t>(n.value_or(1));
  TANDEM_RETURN_IF_ERROR(ReadStops(fields, "stop", request.stops));
  TANDEM_RETURN_IF_ERROR(ReadStream(fields, request));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("ignore_eos", request.ignore_eos));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("return_tokens_as_token_ids", request.tokens_as_ids));
  return request;
}

std::vector<std::string_view> WithOpenAiCommonFields(std::span<const std::string_view> own) {
  std::vector<std::string_view> known(kCommonFields.begin(), kCommonFields.end());
  known.insert(known.end(), own.begin(), own.end());
  return known;
}

}  // namespace tandem
