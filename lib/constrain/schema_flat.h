#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// A JSON Schema without its references and combinations: each `$ref`, `allOf`, `anyOf` and `oneOf`
// at its top is worked in, and what is left are alternatives of plain keywords. Nothing is left out
// in silence: a keyword that cannot be worked in, or that nobody knows, is refused by name.

using SchemaJson = nlohmann::ordered_json;

inline constexpr std::size_t kMaxAlternatives = 64;

// One alternative: an object with keywords of kPlainKeywords (schema_flat.cc) alone. `properties`,
// `items` and so on hold schemas as they were written, or {"allOf": [...]} of several.
using FlatSchema = SchemaJson;

class SchemaFlattener {
 public:
  // `root` is what references point into; it must outlive this.
  explicit SchemaFlattener(const SchemaJson& root) : root_(root) {}

  // Values that fit the schema are those that fit any of these; none: no value does. `path` names
  // the schema in errors ("#/properties/a"). INVALID_ARGUMENT for what is refused.
  absl::StatusOr<std::vector<FlatSchema>> Flatten(const SchemaJson& schema,
                                                  const std::string& path);

  // The schema that "#/..." points to.
  absl::StatusOr<const SchemaJson*> Resolve(std::string_view reference,
                                            const std::string& path) const;

 private:
  absl::StatusOr<std::vector<FlatSchema>> FlattenAt(const SchemaJson& schema,
                                                    const std::string& path, int depth);
  // Of anyOf, or where `exclusive` of oneOf.
  absl::StatusOr<std::vector<FlatSchema>> Union(const SchemaJson& list, const std::string& path,
                                                bool exclusive, int depth);
  absl::Status CheckExclusive(const std::vector<std::vector<FlatSchema>>& branches,
                              const std::string& path);
  // Whether it is certain that no value fits both.
  bool AreApart(const FlatSchema& a, const FlatSchema& b, int depth);

  const SchemaJson& root_;
  int steps_ = 0;
};

// The types that an alternative allows, of "object", "array", "string", "number", "integer",
// "boolean" and "null"; "integer" not beside "number".
std::vector<std::string> TypesOf(const FlatSchema& schema);
// INVALID_ARGUMENT: "schema: PATH: expected ..."
absl::Status SchemaError(std::string_view path, std::string_view message);

}  // namespace tandem
