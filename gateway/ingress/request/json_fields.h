#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/ingress/request/request.h"

namespace tandem {

// The JSON object that a request's body holds. InvalidArgument for broken UTF-8, broken JSON (with
// the byte where it breaks), nesting deeper than the options say, or anything but an object.
// Numbers that a double cannot hold are broken JSON.
absl::StatusOr<nlohmann::json> ParseBody(std::string_view body, const ReadOptions& options);

// How a value is named in error texts: "string", "null", "integer", ...
std::string_view JsonTypeName(const nlohmann::json& value);

// Typed access to an object's members. A member that is absent or null reads as nullopt; one of the
// wrong type is InvalidArgument naming the member; ranges are sampling_rules.h's. Keeps a reference
// to the object.
class JsonFields {
 public:
  // `prefix` stands before member names in errors: "messages[2]." or "". `source`: the text that
  // the object was read from, where its members' texts are wanted.
  JsonFields(const nlohmann::json& object, std::string prefix, std::string_view source = "");

  // nullptr when absent or null.
  const nlohmann::json* Find(std::string_view name) const;
  absl::StatusOr<std::optional<bool>> Bool(std::string_view name) const;
  // Absent and null are of the wrong type here.
  absl::StatusOr<std::string> NeededString(std::string_view name) const;
  // These leave `out` as it is for a member that is absent or null.
  absl::Status ReadBool(std::string_view name, bool& out) const;
  absl::Status ReadNumber(std::string_view name, std::optional<double>& out) const;
  // An integral float ("2.0") counts as an integer.
  absl::Status ReadInteger(std::string_view name, std::optional<std::int64_t>& out) const;
  // The member's JSON text as it was written, its own members in their order; without a source (or
  // where the source cannot tell), with the members sorted. The member must be there.
  std::string TextOf(std::string_view name) const;
  // The part of the source that the member is; "" without a source.
  std::string_view SourceOf(std::string_view name) const;
  std::string_view source() const { return source_; }
  absl::Status WrongType(std::string_view name, std::string_view expected) const;
  std::string PathOf(std::string_view name) const;

 private:
  const nlohmann::json& object_;
  std::string prefix_;
  std::string_view source_;
};

// The integer that `value` is, or nullopt when it is none that int64 holds.
std::optional<std::int64_t> IntegerOf(const nlohmann::json& value);

}  // namespace tandem
