#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tandem {

// The content of a JSON string of JSON Schema's format of that name, as an expression of a grammar
// (ebnf.h); nullopt for one that is not known.
std::optional<std::string> FormatToGrammar(std::string_view name);
// Names that other standards use as a remark on a value ("int64", "password"): they allow every one.
bool IsLooseFormat(std::string_view name);

}  // namespace tandem
