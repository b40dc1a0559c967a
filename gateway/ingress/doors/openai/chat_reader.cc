#include "gateway/ingress/doors/openai/openai_reader.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/field_rules.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 9> kOwnFields = {"messages",
                                                        "max_completion_tokens",
                                                        "top_logprobs",
                                                        "tools",
                                                        "tool_choice",
                                                        "parallel_tool_calls",
                                                        "response_format",
                                                        "continue_final_message",
                                                        "add_generation_prompt"};

// Of both names' limits the smaller one counts.
absl::Status ReadChatMaxTokens(const JsonFields& fields, std::optional<std::int32_t>& max_tokens) {
  std::optional<std::int32_t> newer;
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_tokens", 1, max_tokens));
  TANDEM_RETURN_IF_ERROR(ReadMaxTokens(fields, "max_completion_tokens", 1, newer));
  if (newer.has_value()) max_tokens = std::min(max_tokens.value_or(*newer), *newer);
  return absl::OkStatus();
}

absl::Status ReadToolChoice(const JsonFields& fields, ToolChoice& choice) {
  const Json* value = fields.Find("tool_choice");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_string()) return ReadToolMode(fields, value->get<std::string>(), choice);
  if (!value->is_object()) return fields.WrongType("tool_choice", "a string or an object");
  const JsonFields inner(*value, "tool_choice.");
  TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
  if (type != "function") {
    return InvalidField("tool_choice.type",
                        Cat("'tool_choice.type': expected function, found '", type, "'"),
                        "unsupported_parameter");
  }
  const Json* function = inner.Find("function");
  if (function == nullptr || !function->is_object()) {
    return inner.WrongType("function", "an object");
  }
  choice.mode = ToolChoice::Mode::kNamed;
  TANDEM_ASSIGN_OR_RETURN(choice.name,
                          JsonFields(*function, "tool_choice.function.").NeededString("name"));
  return absl::OkStatus();
}

absl::Status ReadResponseFormat(const JsonFields& fields, ResponseFormat& format) {
  const Json* value = fields.Find("response_format");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_object()) return fields.WrongType("response_format", "an object");
  const JsonFields inner(*value, "response_format.", fields.SourceOf("response_format"));
  TANDEM_ASSIGN_OR_RETURN(const std::string type, inner.NeededString("type"));
  if (type == "text") return absl::OkStatus();
  if (type == "json_object") {
    format.kind = ResponseFormat::Kind::kJsonObject;
    return absl::OkStatus();
  }
  if (type != "json_schema") {
    return InvalidField("response_format.type",
                        Cat("'response_format.type': expected text, json_object or json_schema, "
                            "found '",
                            type, "'"));
  }
  const Json* schema = inner.Find("json_schema");
  if (schema == nullptr || !schema->is_object()) {
    return inner.WrongType("json_schema", "an object with a schema");
  }
  return ReadSchemaFormat(
      JsonFields(*schema, "response_format.json_schema.", inner.SourceOf("json_schema")), format);
}

}  // namespace

absl::StatusOr<InferenceRequest> ReadChatRequest(std::string_view body,
                                                 const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  TANDEM_ASSIGN_OR_RETURN(InferenceRequest request, ReadOpenAiCommon(fields));
  TANDEM_ASSIGN_OR_RETURN(ChatPrompt chat, ReadChatMessages(fields));
  request.prompts.emplace_back(std::move(chat));
  TANDEM_RETURN_IF_ERROR(ReadChatMaxTokens(fields, request.max_tokens));
  TANDEM_RETURN_IF_ERROR(ReadChatLogprobs(fields, request.sampling));
  TANDEM_RETURN_IF_ERROR(ReadTools(fields, request.tools));
  TANDEM_RETURN_IF_ERROR(ReadToolChoice(fields, request.tool_choice));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("parallel_tool_calls", request.parallel_tool_calls));
  TANDEM_RETURN_IF_ERROR(ReadResponseFormat(fields, request.response_format));
  TANDEM_RETURN_IF_ERROR(ReadGuided(fields, request.response_format));
  TANDEM_RETURN_IF_ERROR(CheckTools(request));
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, WithOpenAiCommonFields(kOwnFields), {}, options,
                                          request.ignored_fields));
  return request;
}

}  // namespace tandem
