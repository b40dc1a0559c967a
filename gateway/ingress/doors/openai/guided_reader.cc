#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/ingress/doors/openai/openai_reader.h"
#include "gateway/ingress/request/error.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/constrain/ebnf.h"

namespace tandem {
namespace {

using Json = nlohmann::json;
using Kind = ResponseFormat::Kind;

enum class Wanted : std::uint8_t { kSchema, kRegex, kChoice, kGrammar, kAnyObject };

struct Spelling {
  std::string_view name;
  Wanted wanted;
};
constexpr auto kFlat = std::to_array<Spelling>({
    {"guided_json", Wanted::kSchema},
    {"guided_regex", Wanted::kRegex},
    {"guided_choice", Wanted::kChoice},
    {"guided_grammar", Wanted::kGrammar},
    {"json_schema", Wanted::kSchema},
    {"grammar", Wanted::kGrammar},
});
constexpr auto kNested = std::to_array<Spelling>({
    {"json", Wanted::kSchema},
    {"regex", Wanted::kRegex},
    {"choice", Wanted::kChoice},
    {"grammar", Wanted::kGrammar},
    {"json_object", Wanted::kAnyObject},
});

absl::StatusOr<std::string> ReadChoice(const JsonFields& fields, std::string_view name) {
  const Json& list = *fields.Find(name);
  if (!list.is_array() || list.empty()) return fields.WrongType(name, "an array of strings");
  std::string grammar = "root ::= ";
  for (const Json& entry : list) {
    if (!entry.is_string()) return fields.WrongType(name, "an array of strings");
    grammar.append(
        Cat(&entry == &list.front() ? "" : " | ", LiteralText(entry.get<std::string>())));
  }
  return grammar + "\n";
}

// What asks for nothing leaves `format` as it is.
absl::Status ReadSpelling(const JsonFields& fields, const Spelling& spelling,
                          ResponseFormat& format) {
  const Json* value = fields.Find(spelling.name);
  const bool nothing =
      value == nullptr || *value == false || *value == "" || (value->is_object() && value->empty());
  if (nothing) return absl::OkStatus();
  const std::string path = fields.PathOf(spelling.name);
  if (format.kind != Kind::kText) {
    return InvalidField(path, Cat("'", path, "': not together with '", format.field, "'"));
  }
  format.field = path;
  format.strict = true;
  switch (spelling.wanted) {
    case Wanted::kSchema:
      format.kind = Kind::kJsonSchema;
      if (value->is_object()) {
        format.definition = fields.TextOf(spelling.name);
        return absl::OkStatus();
      }
      break;
    case Wanted::kRegex:
      format.kind = Kind::kRegex;
      break;
    case Wanted::kGrammar:
      format.kind = Kind::kGrammar;
      break;
    case Wanted::kChoice: {
      format.kind = Kind::kGrammar;
      TANDEM_ASSIGN_OR_RETURN(format.definition, ReadChoice(fields, spelling.name));
      return absl::OkStatus();
    }
    case Wanted::kAnyObject:
      format.kind = Kind::kJsonObject;
      return *value == true ? absl::OkStatus() : fields.WrongType(spelling.name, "a boolean");
  }
  TANDEM_ASSIGN_OR_RETURN(format.definition, fields.NeededString(spelling.name));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadGuided(const JsonFields& fields, ResponseFormat& format) {
  for (const Spelling& spelling : kFlat) {
    TANDEM_RETURN_IF_ERROR(ReadSpelling(fields, spelling, format));
  }
  const Json* nested = fields.Find("structured_outputs");
  if (nested == nullptr) return absl::OkStatus();
  if (!nested->is_object()) return fields.WrongType("structured_outputs", "an object");
  const JsonFields inner(*nested, "structured_outputs.", fields.SourceOf("structured_outputs"));
  for (const auto& member : nested->items()) {
    const bool known = std::any_of(kNested.begin(), kNested.end(), [&](const Spelling& spelling) {
      return spelling.name == member.key();
    });
    if (known || member.value().is_null() || member.value() == false) continue;
    const std::string path = inner.PathOf(member.key());
    return InvalidField(path, Cat("'", path, "' is not supported"), "unsupported_parameter");
  }
  for (const Spelling& spelling : kNested) {
    TANDEM_RETURN_IF_ERROR(ReadSpelling(inner, spelling, format));
  }
  return absl::OkStatus();
}

}  // namespace tandem
