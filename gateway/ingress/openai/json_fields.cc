#include "gateway/ingress/openai/json_fields.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/openai/error.h"
#include "lib/base/status_macros.h"
#include "lib/text/cat.h"
#include "lib/text/utf8.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

// Checked on the text, before the parser builds anything.
absl::Status CheckDepth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) {
        return InvalidField(
            "", Cat("the body nests deeper than ", kMaxJsonDepth, " levels at byte ", i));
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return absl::OkStatus();
}

// Learns where a text breaks; keeps nothing.
class ErrorFinder final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    position_ = position;
    return false;
  }
  std::size_t position() const { return position_; }

 private:
  std::size_t position_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseBody(std::string_view body) {
  if (body.empty()) return InvalidField("", "the body is empty: expected a JSON object");
  if (!IsValidUtf8(body)) return InvalidField("", "the body is not valid UTF-8");
  TANDEM_RETURN_IF_ERROR(CheckDepth(body));
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    ErrorFinder finder;
    Json::sax_parse(body, &finder);
    return InvalidField("",
                        Cat("the body is not valid JSON: it breaks at byte ", finder.position()));
  }
  if (!json.is_object()) {
    return InvalidField("", Cat("expected a JSON object, found ", JsonTypeName(json)));
  }
  return json;
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

JsonFields::JsonFields(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

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

absl::StatusOr<std::optional<double>> JsonFields::Number(std::string_view name, double lo,
                                                         double hi) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return WrongType(name, "a number");
  const double number = value->get<double>();
  if (!(number >= lo && number <= hi)) {
    const std::string path = PathOf(name);
    return InvalidField(
        path, Cat("'", path, "': expected a number from ", lo, " to ", hi, ", found ", number));
  }
  return number;
}

absl::StatusOr<std::optional<std::int64_t>> JsonFields::Integer(std::string_view name,
                                                                std::int64_t lo,
                                                                std::int64_t hi) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return WrongType(name, "an integer");
  const std::optional<std::int64_t> number = IntegerOf(*value);
  if (!number.has_value() || *number < lo || *number > hi) {
    const std::string path = PathOf(name);
    return InvalidField(path, Cat("'", path, "': expected an integer from ", lo, " to ", hi,
                                  ", found ", value->dump()));
  }
  return number;
}

}  // namespace tandem
