#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

// Pieces of a JSON text as they were written: a parsed object has forgotten the order of its
// members, which counts in a schema. The texts must be valid JSON without white space around them,
// and what is given back is.

// Of the member `name` of the object that `object` is, the last one of that name; "" where there is
// none, or where its name is written with escapes.
std::string_view MemberText(std::string_view object, std::string_view name);

// Of the elements of the array that `array` is.
std::vector<std::string_view> ElementTexts(std::string_view array);

// `text` without JSON's white space around it.
std::string_view TrimJson(std::string_view text);

// JSON text of any value; bytes that are no UTF-8 are replaced.
std::string DumpJson(const nlohmann::ordered_json& json);

}  // namespace tandem
