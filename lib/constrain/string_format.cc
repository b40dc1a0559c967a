#include "lib/constrain/string_format.h"

#include <algorithm>
#include <array>
#include <utility>

#include "lib/base/strings.h"

namespace tandem {
namespace {

// February has 28 days and no minute a second 60: a valid date needs no calendar.
constexpr std::string_view kDate =
    R"EBNF(([0-9]{4} "-" (("01" | "03" | "05" | "07" | "08" | "10" | "12") "-" ("0" [1-9] | [12] [0-9] | "3" [01]) | ("04" | "06" | "09" | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))))EBNF";
constexpr std::string_view kTime =
    R"EBNF((([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+\-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])))EBNF";
constexpr std::string_view kUuid =
    R"EBNF(([0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}))EBNF";
constexpr std::string_view kByte =
    R"EBNF(("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9] [0-9] | [0-9]))EBNF";
constexpr std::string_view kHost =
    R"EBNF(([a-z0-9] ([a-z0-9\-]{0,30} [a-z0-9])? ("." [a-z0-9] ([a-z0-9\-]{0,30} [a-z0-9])?){0,3}))EBNF";
constexpr std::string_view kEmailName =
    R"EBNF(([A-Za-z0-9_+\-]{1,32} ("." [A-Za-z0-9_+\-]{1,30})?))EBNF";
constexpr std::string_view kDuration =
    R"EBNF(("P" ([0-9]{1,4} "D" | [0-9]{1,4} "W" | ([0-9]{1,4} "D")? "T" ([0-9]{1,4} "H" ([0-9]{1,4} "M" ([0-9]{1,4} "S")?)? | [0-9]{1,4} "M" ([0-9]{1,4} "S")? | [0-9]{1,4} "S"))))EBNF";
constexpr std::string_view kUri =
    R"EBNF(("http" "s"? "://" HOST ("/" [A-Za-z0-9._~\-]{0,64}){0,8} ("?" [A-Za-z0-9._~=&\-]{0,128})? ("#" [A-Za-z0-9._~\-]{0,64})?))EBNF";

}  // namespace

std::optional<std::string> FormatToGrammar(std::string_view name) {
  if (name == "date") return std::string(kDate);
  if (name == "time") return std::string(kTime);
  if (name == "date-time") return Cat("(", kDate, " \"T\" ", kTime, ")");
  if (name == "uuid") return std::string(kUuid);
  if (name == "duration") return std::string(kDuration);
  if (name == "ipv4") return Cat("(", kByte, " (\".\" ", kByte, "){3})");
  // One of its spellings, without "::".
  if (name == "ipv6") return std::string("([0-9a-f]{1,4} (\":\" [0-9a-f]{1,4}){7})");
  if (name == "hostname") return std::string(kHost);
  if (name == "email") return Cat("(", kEmailName, " \"@\" ", kHost, ")");
  if (name == "uri") {
    std::string uri(kUri);
    return uri.replace(uri.find("HOST"), 4, kHost);
  }
  return std::nullopt;
}

bool IsLooseFormat(std::string_view name) {
  constexpr std::array<std::string_view, 8> kLoose = {"int32",    "int64",  "float", "double",
                                                      "password", "binary", "byte",  "path"};
  return std::find(kLoose.begin(), kLoose.end(), name) != kLoose.end();
}

}  // namespace tandem
