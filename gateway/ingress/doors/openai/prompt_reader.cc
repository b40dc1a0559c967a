#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/doors/openai/openai_reader.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

bool IsTokenArray(const Json& value) {
  return value.is_array() && !value.empty() && value.front().is_number();
}

absl::StatusOr<std::vector<std::int32_t>> ReadTokens(const Json& array, std::string_view name,
                                                     const std::string& path) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(array.size());
  for (const Json& entry : array) {
    const std::optional<std::int64_t> token = IntegerOf(entry);
    if (!token.has_value() || *token < 0 || *token > std::numeric_limits<std::int32_t>::max()) {
      return InvalidField(name, Cat("'", path, "[", tokens.size(),
                                    "]': expected a token id, found ", entry.dump()));
    }
    tokens.push_back(static_cast<std::int32_t>(*token));
  }
  return tokens;
}

}  // namespace

absl::Status ReadPrompts(const JsonFields& fields, std::string_view name,
                         std::vector<Prompt>& prompts) {
  constexpr std::string_view kExpected =
      "a string, an array of strings, an array of token ids or an array of those";
  const Json* prompt = fields.Find(name);
  if (prompt == nullptr) return fields.WrongType(name, kExpected);
  if (prompt->is_string()) {
    prompts.emplace_back(prompt->get<std::string>());
    return absl::OkStatus();
  }
  if (!prompt->is_array()) return fields.WrongType(name, kExpected);
  if (prompt->empty())
    return InvalidField(name, Cat("'", name, "': expected a prompt, found none"));
  if (IsTokenArray(*prompt)) {
    TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> tokens,
                            ReadTokens(*prompt, name, std::string(name)));
    prompts.emplace_back(std::move(tokens));
    return absl::OkStatus();
  }
  const bool texts = prompt->front().is_string();
  for (std::size_t i = 0; i < prompt->size(); ++i) {
    const Json& entry = (*prompt)[i];
    const std::string path = Cat(name, "[", i, "]");
    if (texts && entry.is_string()) {
      prompts.emplace_back(entry.get<std::string>());
    } else if (!texts && IsTokenArray(entry)) {
      TANDEM_ASSIGN_OR_RETURN(std::vector<std::int32_t> tokens, ReadTokens(entry, name, path));
      prompts.emplace_back(std::move(tokens));
    } else {
      return InvalidField(
          name, Cat("'", path, "': expected ",
                    texts ? "a string like the first entry" : "an array of token ids", ", found ",
                    JsonTypeName(entry), entry.is_array() && entry.empty() ? " (empty)" : ""));
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem
