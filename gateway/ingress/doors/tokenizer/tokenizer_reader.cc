#include "gateway/ingress/doors/tokenizer/tokenizer_reader.h"

#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/field_readers.h"
#include "gateway/ingress/request/field_rules.h"
#include "gateway/ingress/request/json_fields.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr auto kTokenizeFields = std::to_array<std::string_view>(
    {"model", "prompt", "content", "messages", "add_special_tokens", "add_special", "parse_special",
     "return_token_strs", "with_pieces", "add_generation_prompt", "continue_final_message"});
constexpr auto kDetokenizeFields = std::to_array<std::string_view>({"model", "tokens"});
constexpr auto kRules = std::to_array<FieldRule>({{"tools", "[]"}});

absl::Status ReadModel(const JsonFields& fields, std::string& model) {
  if (fields.Find("model") == nullptr) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(model, fields.NeededString("model"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizeRequest> ReadTokenizeRequest(std::string_view body,
                                                    const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  TokenizeRequest request;
  TANDEM_RETURN_IF_ERROR(ReadModel(fields, request.model));
  if (fields.Find("messages") != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(ChatPrompt chat, ReadChatMessages(fields));
    request.prompt = std::move(chat);
  } else {
    const std::string_view name = fields.Find("content") == nullptr ? "prompt" : "content";
    // llama.cpp's server adds nothing unless it is asked to.
    request.add_special = name == "prompt";
    TANDEM_ASSIGN_OR_RETURN(std::string text, fields.NeededString(name));
    request.prompt = std::move(text);
  }
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("add_special_tokens", request.add_special));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("add_special", request.add_special));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("parse_special", request.parse_special));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("return_token_strs", request.pieces));
  TANDEM_RETURN_IF_ERROR(fields.ReadBool("with_pieces", request.pieces));
  std::vector<std::string> ignored;
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kTokenizeFields, kRules, options, ignored));
  return request;
}

absl::StatusOr<DetokenizeRequest> ReadDetokenizeRequest(std::string_view body,
                                                        const ReadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseBody(body, options));
  const JsonFields fields(json, "", body);
  DetokenizeRequest request;
  TANDEM_RETURN_IF_ERROR(ReadModel(fields, request.model));
  const Json* tokens = fields.Find("tokens");
  if (tokens == nullptr || !tokens->is_array()) {
    return fields.WrongType("tokens", "an array of token ids");
  }
  request.tokens.reserve(tokens->size());
  for (const Json& entry : *tokens) {
    const std::optional<std::int64_t> token = IntegerOf(entry);
    if (!token.has_value() || *token < 0 || *token > std::numeric_limits<std::int32_t>::max()) {
      return InvalidField("tokens", Cat("'tokens[", request.tokens.size(),
                                        "]': expected a token id, found ", JsonTypeName(entry)));
    }
    request.tokens.push_back(static_cast<std::int32_t>(*token));
  }
  std::vector<std::string> ignored;
  TANDEM_RETURN_IF_ERROR(CheckOtherFields(json, kDetokenizeFields, kRules, options, ignored));
  return request;
}

}  // namespace tandem
