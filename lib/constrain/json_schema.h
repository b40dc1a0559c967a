#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/constrain/json_grammar.h"

namespace tandem {

inline constexpr std::size_t kMaxSchemaBytes = std::size_t{128} << 10;

// The values that a JSON Schema (2020-12, with the older spellings `definitions` and lists in
// `items`) describes, as an expression of `grammar`; every text that it matches is valid. A keyword
// that cannot be enforced is INVALID_ARGUMENT and named with its place, never left out.
//
// The grammar says less than the schema may: properties come in the order in which the schema has
// them; where `properties` stands without `additionalProperties` there are no others, and where
// `prefixItems` stands without `items` there are no more; numbers are json_grammar.h's. What is
// supported stands in docs/structured-output.md.
absl::StatusOr<std::string> SchemaToGrammar(std::string_view schema, GrammarText& grammar);

// A whole grammar for one schema.
absl::StatusOr<std::string> GrammarOfSchema(std::string_view schema);

}  // namespace tandem
