#include <array>
#include <nlohmann/json.hpp>

#include "gateway/ingress/answer/embeddings.h"
#include "gateway/ingress/doors/openai/openai_reader.h"
#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr auto kFields = std::to_array<std::string_view>(
    {"model", "input", "encoding_format", "dimensions", "embd_normalize"});
constexpr auto kRules = std::to_array<FieldRule>({{"stream", "false"}});

absl::Status ReadEncoding(const JsonFields& fields, EmbeddingWish& wish) {
  if (fields.Find("encoding_format") == nullptr) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const std::string format, fields.NeededString("encoding_format"));
  wish.base64 = format == "base64";
  if (wish.base64 || format == "float") return absl::OkStatus();
  return InvalidField("encoding_format",
                      Cat("'encoding_format': expected float or base64, found '", format, "'"));
}

// As llama.cpp has it; of its norms the two that are of use.
absl::Status ReadNormalize(const JsonFields& fields, EmbeddingWish& wish) {
  std::optional<std::int64_t> norm;
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("embd_normalize", norm));
  wish.unit_length = norm.value_or(2) == 2;
  if (wish.unit_length || *norm == -1) return absl::OkStatus();
  return InvalidField(
      "embd_normalize",
      Cat("'embd_normalize': expected 2 (length 1) or -1 (as they are), found ", *norm));
}

}  // namespace

absl::StatusOr<InferenceRequest> ReadEmbeddingRequest(std::string_view body,
                                                      const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "");
  InferenceRequest request;
  request.prompt_field = "input";
  EmbeddingWish& wish = request.embed.emplace();
  if (fields.Find("model") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(request.model, fields.NeededString("model"));
  }
  TANDEM_RETURN_IF_ERROR(ReadPrompts(fields, "input", request.prompts));
  TANDEM_RETURN_IF_ERROR(CheckEmbeddingPrompts("input", request.prompts));
  TANDEM_RETURN_IF_ERROR(ReadEncoding(fields, wish));
  TANDEM_RETURN_IF_ERROR(fields.ReadInteger("dimensions", wish.dimensions));
  TANDEM_RETURN_IF_ERROR(ReadNormalize(fields, wish));
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kFields, kRules, options, request.ignored_fields));
  return request;
}

}  // namespace tandem
