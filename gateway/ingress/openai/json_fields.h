#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tandem {

inline constexpr int kMaxJsonDepth = 32;

// The JSON object that a request's body holds. InvalidArgument for broken UTF-8, broken JSON (with
// the byte where it breaks), nesting deeper than kMaxJsonDepth, or anything but an object. Numbers
// that a double cannot hold are broken JSON.
absl::StatusOr<nlohmann::json> ParseBody(std::string_view body);

// How a value is named in error texts: "string", "null", "integer", ...
std::string_view JsonTypeName(const nlohmann::json& value);

// Typed access to an object's members. A member that is absent or null reads as nullopt; one of the
// wrong type or out of range is InvalidArgument naming the member. Keeps a reference to the object.
class JsonFields {
 public:
  // `prefix` stands before member names in errors: "messages[2]." or "".
  JsonFields(const nlohmann::json& object, std::string prefix);

  // nullptr when absent or null.
  const nlohmann::json* Find(std::string_view name) const;
  absl::StatusOr<std::optional<bool>> Bool(std::string_view name) const;
  // Absent and null are of the wrong type here.
  absl::StatusOr<std::string> NeededString(std::string_view name) const;
  // lo <= value <= hi.
  absl::StatusOr<std::optional<double>> Number(std::string_view name, double lo, double hi) const;
  // An integral float ("2.0") counts as an integer.
  absl::StatusOr<std::optional<std::int64_t>> Integer(std::string_view name, std::int64_t lo,
                                                      std::int64_t hi) const;
  absl::Status WrongType(std::string_view name, std::string_view expected) const;
  std::string PathOf(std::string_view name) const;

 private:
  const nlohmann::json& object_;
  std::string prefix_;
};

// The integer that `value` is, or nullopt when it is none that int64 holds.
std::optional<std::int64_t> IntegerOf(const nlohmann::json& value);

}  // namespace tandem
