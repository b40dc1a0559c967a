#include "gateway/ingress/request/json_fields.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/request/error.h"
#include "gateway/ingress/request/json_text.h"
#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

}  // namespace

absl::StatusOr<Json> ParseBody(std::string_view body, const ReadOptions& options) {
  if (body.empty()) return InvalidField("", "the body is empty: expected a JSON object");
  if (!IsValidUtf8(body)) return InvalidField("", "the body is not valid UTF-8");
  absl::StatusOr<Json> parsed = ParseJson(body, options.max_depth);
  if (!parsed.ok()) return InvalidField("", Cat("the body: ", parsed.status().message()));
  Json& json = *parsed;
  if (!json.is_object()) {
    return InvalidField("", Cat("expected a JSON object, found ", JsonTypeName(json)));
  }
  return parsed;
}

std::string_view JsonTypeName(const Json& value) {
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "a boolean";
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return "null";
}

std::optional<std::int64_t> IntegerOf(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it a double is no exact integer
  if (std::trunc(number) != number || std::abs(number) > kExact) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

JsonFields::JsonFields(const Json& object, std::string prefix, std::string_view source)
    : object_(object), prefix_(std::move(prefix)), source_(TrimJson(source)) {}

std::string_view JsonFields::SourceOf(std::string_view name) const {
  return MemberText(source_, name);
}

std::string JsonFields::TextOf(std::string_view name) const {
  const std::string_view source = SourceOf(name);
  return source.empty() ? object_.find(name)->dump() : std::string(source);
}

const Json* JsonFields::Find(std::string_view name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string JsonFields::PathOf(std::string_view name) const { return Cat(prefix_, name); }

absl::Status JsonFields::WrongType(std::string_view name, std::string_view expected) const {
  const Json* value = Find(name);
  const std::string path = PathOf(name);
  return InvalidField(path, Cat("'", path, "': expected ", expected, ", found ",
                                value == nullptr ? "nothing" : JsonTypeName(*value)));
}

absl::StatusOr<std::optional<bool>> JsonFields::Bool(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return WrongType(name, "a boolean");
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonFields::NeededString(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr || !value->is_string()) return WrongType(name, "a string");
  return value->get<std::string>();
}

absl::Status JsonFields::ReadBool(std::string_view name, bool& out) const {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> value, Bool(name));
  if (value.has_value()) out = *value;
  return absl::OkStatus();
}

absl::Status JsonFields::ReadNumber(std::string_view name, std::optional<double>& out) const {
  const Json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_number()) return WrongType(name, "a number");
  out = value->get<double>();
  return absl::OkStatus();
}

absl::Status JsonFields::ReadInteger(std::string_view name,
                                     std::optional<std::int64_t>& out) const {
  const Json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_number()) return WrongType(name, "an integer");
  out = IntegerOf(*value);
  if (out.has_value()) return absl::OkStatus();
  const std::string path = PathOf(name);
  return InvalidField(path, Cat("'", path, "': expected an integer, found ", value->dump()));
}

}  // namespace tandem
