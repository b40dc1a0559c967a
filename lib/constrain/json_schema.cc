#include "lib/constrain/json_schema.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "lib/base/json.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/constrain/number_range.h"
#include "lib/constrain/regex.h"
#include "lib/constrain/schema_flat.h"
#include "lib/constrain/string_format.h"

namespace tandem {
namespace {

constexpr std::string_view kNothing = "[]";
constexpr int kMaxConvertDepth = 128;

// As json.dumps spells it.
std::string Spelled(const SchemaJson& value) {
  if (value.is_object() || value.is_array()) {
    std::string text(1, value.is_object() ? '{' : '[');
    for (auto it = value.begin(); it != value.end(); ++it) {
      if (it != value.begin()) text.append(", ");
      if (value.is_object()) text.append(SchemaJson(it.key()).dump()).append(": ");
      text.append(Spelled(*it));
    }
    return text + (value.is_object() ? '}' : ']');
  }
  return value.dump();
}

class Converter {
 public:
  Converter(const SchemaJson& root, GrammarText& grammar) : grammar_(grammar), flattener_(root) {}

  // The name of the rule for `schema`.
  absl::StatusOr<std::string> Convert(const SchemaJson& schema, const std::string& path) {
    // Where a reference comes back to a schema under way, its rule has a name already.
    const auto [known, added] = rules_.emplace(schema.dump(), "");
    if (!added) return known->second;
    const std::string rule = known->second = grammar_.Declare();
    if (grammar_.full()) return SchemaError(path, "the whole schema is too large");
    if (depth_ == kMaxConvertDepth) return SchemaError(path, "too many schemas in one another");
    ++depth_;
    TANDEM_RETURN_IF_ERROR(ConvertTo(rule, schema, path));
    --depth_;
    return rule;
  }

 private:
  absl::Status ConvertTo(const std::string& rule, const SchemaJson& schema,
                         const std::string& path) {
    // A schema that only refers to another one is that one.
    if (schema.is_object() && schema.contains("$ref") && schema["$ref"].is_string() &&
        Alone(schema)) {
      const auto reference = schema["$ref"].get<std::string>();
      TANDEM_ASSIGN_OR_RETURN(const SchemaJson* target, flattener_.Resolve(reference, path));
      TANDEM_ASSIGN_OR_RETURN(const std::string other, Convert(*target, reference));
      grammar_.Define(rule, other);
      return absl::OkStatus();
    }
    TANDEM_ASSIGN_OR_RETURN(const std::vector<FlatSchema> ways, flattener_.Flatten(schema, path));
    std::string all;
    for (const FlatSchema& way : ways) {
      TANDEM_ASSIGN_OR_RETURN(const std::string one, ConvertFlat(way, path));
      all.append(all.empty() ? "" : " | ").append(one);
    }
    grammar_.Define(rule, all.empty() ? kNothing : all);
    return absl::OkStatus();
  }

  static bool Alone(const SchemaJson& schema) {
    return std::all_of(schema.items().begin(), schema.items().end(), [](const auto& item) {
      return item.key() == "$ref" || item.key() == "description" || item.key() == "title" ||
             item.key() == "default";
    });
  }

  absl::StatusOr<std::string> ConvertFlat(const FlatSchema& schema, const std::string& path) {
    if (schema.contains("enum")) return ConvertEnum(schema, path);
    std::string all;
    for (const std::string& type : TypesOf(schema)) {
      TANDEM_ASSIGN_OR_RETURN(const std::string one, ConvertType(type, schema, path));
      all.append(all.empty() ? "" : " | ").append(one);
    }
    return all;
  }

  absl::StatusOr<std::string> ConvertType(const std::string& type, const FlatSchema& schema,
                                          const std::string& path) {
    if (type == "object") return ConvertObject(schema, path);
    if (type == "array") return ConvertArray(schema, path);
    if (type == "string") return ConvertString(schema, path);
    if (type == "number" || type == "integer") return ConvertNumber(type, schema, path);
    return type == "boolean" ? std::string(kJsonBoolean) : std::string("\"null\"");
  }

  absl::StatusOr<std::string> ConvertEnum(const FlatSchema& schema, const std::string& path) {
    for (const auto& [key, value] : schema.items()) {
      if (key != "enum" && key != "type")
        return SchemaError(path, Cat("'", key, "' beside 'enum' or 'const' cannot be enforced"));
    }
    std::string all;
    for (const SchemaJson& value : schema["enum"])
      all.append(all.empty() ? "" : " | ").append(LiteralText(Spelled(value)));
    return all;
  }

  static std::int64_t Count(const FlatSchema& schema, const char* key, std::int64_t otherwise) {
    return schema.contains(key) ? schema[key].get<std::int64_t>() : otherwise;
  }

  // "{least,most}"; most -1: no bound.
  static std::string Times(std::int64_t least, std::int64_t most) {
    return Cat("{", least, ",", most < 0 ? "" : std::to_string(most), "}");
  }

  // The bounds of two keywords, or an error where a grammar cannot count so far.
  absl::StatusOr<std::pair<std::int64_t, std::int64_t>> Bounds(const FlatSchema& schema,
                                                               const char* least_key,
                                                               const char* most_key,
                                                               const std::string& path) {
    const std::int64_t least = Count(schema, least_key, 0);
    const std::int64_t most = Count(schema, most_key, -1);
    if (least > kMaxRepeats)
      return SchemaError(path, Cat("'", least_key, "': expected at most ", kMaxRepeats));
    return std::make_pair(least, std::min<std::int64_t>(most, kMaxRepeats));
  }

  absl::StatusOr<std::string> ConvertString(const FlatSchema& schema, const std::string& path) {
    const bool lengths = schema.contains("minLength") || schema.contains("maxLength");
    const bool pattern = schema.contains("pattern");
    std::optional<std::string> format;
    if (schema.contains("format")) {
      const auto name = schema["format"].get<std::string>();
      format = FormatToGrammar(name);
      if (!format.has_value() && !IsLooseFormat(name))
        return SchemaError(path, Cat("format '", name, "' cannot be enforced"));
    }
    if (int{lengths} + int{pattern} + int{format.has_value()} > 1) {
      return SchemaError(
          path,
          "only one of 'pattern', 'format' and minLength/maxLength can be enforced at a time");
    }
    if (format.has_value()) return Cat("\"\\\"\" ", *format, " \"\\\"\"");
    if (pattern) {
      const absl::StatusOr<std::string> regex = RegexToGrammar(
          schema["pattern"].get<std::string>(), RegexText::kJsonString, RegexMatch::kSearch);
      if (!regex.ok())
        return SchemaError(path, Cat("'pattern': ", std::string(regex.status().message())));
      return Cat("\"\\\"\" ", *regex, " \"\\\"\"");
    }
    if (!lengths) return std::string(kJsonString);
    TANDEM_ASSIGN_OR_RETURN(const auto bounds, Bounds(schema, "minLength", "maxLength", path));
    if (bounds.second >= 0 && bounds.second < bounds.first) return std::string(kNothing);
    return Cat("\"\\\"\" ", kJsonCharacter, Times(bounds.first, bounds.second), " \"\\\"\"");
  }

  // The bound of a keyword in plain digits, where there is one.
  absl::StatusOr<std::optional<Decimal>> BoundOf(const FlatSchema& schema, const char* key,
                                                 bool included, const std::string& path) {
    if (!schema.contains(key)) return std::optional<Decimal>();
    const std::string text = schema[key].dump();
    Decimal bound;
    bound.included = included;
    bound.negative = text[0] == '-';
    const std::string digits = text.substr(bound.negative ? 1 : 0);
    const std::size_t point = std::min(digits.find('.'), digits.size());
    if (digits.find_first_of("eE") != std::string::npos || point > kMaxWholeDigits)
      return SchemaError(path, Cat("'", key, "': expected a number of at most ", kMaxWholeDigits,
                                   " digits without exponent, found ", text));
    bound.whole = std::stoll(digits.substr(0, point));
    if (point < digits.size()) bound.fraction = digits.substr(point + 1);
    while (!bound.fraction.empty() && bound.fraction.back() == '0') bound.fraction.pop_back();
    if (bound.whole == 0 && bound.fraction.empty()) bound.negative = false;
    return std::optional<Decimal>(std::move(bound));
  }

  static double ValueOf(const Decimal& bound) {
    const double magnitude = std::stod(Cat(bound.whole, ".", bound.fraction, "0"));
    return bound.negative ? -magnitude : magnitude;
  }

  absl::StatusOr<std::string> ConvertNumber(const std::string& type, const FlatSchema& schema,
                                            const std::string& path) {
    TANDEM_ASSIGN_OR_RETURN(std::optional<Decimal> least, BoundOf(schema, "minimum", true, path));
    TANDEM_ASSIGN_OR_RETURN(std::optional<Decimal> most, BoundOf(schema, "maximum", true, path));
    TANDEM_ASSIGN_OR_RETURN(const std::optional<Decimal> above,
                            BoundOf(schema, "exclusiveMinimum", false, path));
    TANDEM_ASSIGN_OR_RETURN(const std::optional<Decimal> below,
                            BoundOf(schema, "exclusiveMaximum", false, path));
    // The narrower one counts.
    if (above.has_value() && (!least.has_value() || ValueOf(*above) >= ValueOf(*least)))
      least = above;
    if (below.has_value() && (!most.has_value() || ValueOf(*below) <= ValueOf(*most))) most = below;
    if (!least.has_value() && !most.has_value())
      return std::string(type == "integer" ? kJsonInteger : kJsonNumber);
    if (!least.has_value()) least = Decimal{.negative = true, .whole = kMostWhole, .fraction = ""};
    if (!most.has_value()) most = Decimal{.negative = false, .whole = kMostWhole, .fraction = ""};
    if (type == "number") return DecimalRange(*least, *most);
    return IntegerRange(Whole(*least, 1), Whole(*most, -1));
  }

  // The integer next to the bound on its inner side: `inwards` is 1 for a least one, -1 for a most.
  static std::int64_t Whole(const Decimal& bound, int inwards) {
    const std::int64_t toward_zero = bound.negative ? -bound.whole : bound.whole;
    if (bound.fraction.empty()) return toward_zero + (bound.included ? 0 : inwards);
    const bool cut_inwards = bound.negative == (inwards > 0);
    return cut_inwards ? toward_zero : toward_zero + inwards;
  }

  absl::StatusOr<std::string> ConvertArray(const FlatSchema& schema, const std::string& path) {
    TANDEM_ASSIGN_OR_RETURN(const auto bounds, Bounds(schema, "minItems", "maxItems", path));
    const std::int64_t least = bounds.first;
    const std::int64_t most = bounds.second;
    if (most >= 0 && most < least) return std::string(kNothing);
    std::vector<std::string> first;
    if (schema.contains("prefixItems")) {
      for (std::size_t i = 0; i < schema["prefixItems"].size(); ++i) {
        TANDEM_ASSIGN_OR_RETURN(std::string item,
                                Convert(schema["prefixItems"][i], Cat(path, "/prefixItems/", i)));
        first.push_back(std::move(item));
      }
    }
    const auto count = static_cast<std::int64_t>(first.size());
    std::string items(kNothing);
    if (schema.contains("items")) {
      TANDEM_ASSIGN_OR_RETURN(items, Convert(schema["items"], Cat(path, "/items")));
    } else if (first.empty() || least > count) {
      items = kJsonValue;
    }
    const auto more = [&](std::int64_t before) -> std::int64_t {
      return most < 0 ? -1 : std::max<std::int64_t>(most - before, 0);
    };
    // After the first ones; then from the last of them to the one before.
    std::string rest =
        Cat("(\", \" ", items, ")", Times(std::max<std::int64_t>(least - count, 0), more(count)));
    if (first.empty()) {
      if (most == 0) return std::string("\"[]\"");
      rest =
          Cat(items, " (\", \" ", items, ")", Times(std::max<std::int64_t>(least - 1, 0), more(1)));
      return Cat("\"[\" (", rest, ")", least > 0 ? "" : "?", " \"]\"");
    }
    for (std::int64_t i = count; i-- > 0;) {
      const std::string item = Cat(i == 0 ? "" : "\", \" ", first[static_cast<std::size_t>(i)]);
      if (most >= 0 && i >= most) {
        rest = "\"\"";
        continue;
      }
      rest = grammar_.Rule(Cat("(", item, " ", rest, ")", least > i ? "" : "?"));
    }
    return Cat("\"[\" ", rest, " \"]\"");
  }

  struct Property {
    std::string pair;
    bool required = false;
  };

  absl::StatusOr<std::string> ConvertObject(const FlatSchema& schema, const std::string& path) {
    SchemaJson properties = schema.value("properties", SchemaJson::object());
    const SchemaJson required = schema.value("required", SchemaJson::array());
    const bool closed = !properties.empty() || schema.contains("additionalProperties");
    const SchemaJson others = schema.value("additionalProperties", SchemaJson(properties.empty()));
    for (const SchemaJson& name : required) {
      // One that is required and not described is one of the others.
      if (!properties.contains(name.get<std::string>()))
        properties[name.get<std::string>()] =
            schema.value("additionalProperties", SchemaJson(true));
    }
    const std::int64_t least = Count(schema, "minProperties", 0);
    const std::int64_t most = Count(schema, "maxProperties", -1);
    const bool free = others != false;
    if (least > static_cast<std::int64_t>(required.size()))
      return SchemaError(path,
                         "'minProperties' above the number of required ones cannot be enforced");
    if (most >= 0 && most < static_cast<std::int64_t>(required.size()))
      return std::string(kNothing);
    if (most >= 0 && !properties.empty() &&
        (free || most < static_cast<std::int64_t>(properties.size())))
      return SchemaError(path, "'maxProperties' beside optional properties cannot be enforced");
    if (properties.empty() && !closed && most < 0) return std::string(kJsonObject);

    std::vector<Property> pairs;
    std::vector<std::string> names;
    for (const auto& [name, value] : properties.items()) {
      if (name.size() > kMaxWordBytes) {
        return SchemaError(path, Cat("a property's name: expected at most ", kMaxWordBytes,
                                     " bytes, found ", name.size()));
      }
      TANDEM_ASSIGN_OR_RETURN(const std::string rule,
                              Convert(value, Cat(path, "/properties/", name)));
      const bool needed = std::find(required.begin(), required.end(), name) != required.end();
      pairs.push_back({Cat(LiteralText(Cat(SchemaJson(name).dump(), ": ")), " ", rule), needed});
      names.push_back(name);
    }
    std::string other;
    if (free) {
      TANDEM_ASSIGN_OR_RETURN(const std::string rule,
                              Convert(others, Cat(path, "/additionalProperties")));
      other =
          grammar_.Rule(Cat("\"\\\"\" (", OtherText(grammar_, names, Other::kWords, JsonEscaped()),
                            ") \"\\\": \" ", rule));
    }
    return Cat("\"{\" ", Members(pairs, other, most), " \"}\"");
  }

  // Pairs in their order, those that are not required or not; then any number of others.
  std::string Members(const std::vector<Property>& pairs, const std::string& other,
                      std::int64_t most) {
    // What follows where something stands before, and where nothing does.
    std::string after = "\"\"";
    std::string at_first = "\"\"";
    if (!other.empty()) {
      after = Cat("(\", \" ", other, ")*");
      at_first = Cat("(", other, " (\", \" ", other, ")",
                     most < 0 ? "*" : Times(0, std::max<std::int64_t>(most - 1, 0)), ")?");
      if (most == 0) at_first = "\"\"";
    }
    for (std::size_t i = pairs.size(); i-- > 0;) {
      const std::string here = Cat(pairs[i].pair, " ", after);
      const bool last = i == 0;
      const std::string without = pairs[i].required ? "" : Cat(" | ", at_first);
      at_first = grammar_.Rule(Cat(here, without));
      if (last) break;
      after = grammar_.Rule(Cat("\", \" ", here, pairs[i].required ? "" : Cat(" | ", after)));
    }
    return at_first;
  }

  GrammarText& grammar_;
  SchemaFlattener flattener_;
  // By the schema's text: references point into one root, so equal texts mean the same.
  std::map<std::string, std::string> rules_;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<std::string> SchemaToGrammar(std::string_view schema, GrammarText& grammar) {
  if (schema.size() > kMaxSchemaBytes) {
    return absl::InvalidArgumentError(
        Cat("schema: expected at most ", kMaxSchemaBytes, " bytes, found ", schema.size()));
  }
  const absl::StatusOr<nlohmann::json> valid = ParseJson(schema);
  if (!valid.ok()) return Annotate(valid.status(), "schema");
  // A second time, for the order of its members.
  const SchemaJson root = SchemaJson::parse(schema);
  absl::StatusOr<std::string> rule = Converter(root, grammar).Convert(root, "#");
  if (rule.ok() && grammar.full()) return SchemaError("#", "the whole schema is too large");
  return rule;
}

absl::StatusOr<std::string> GrammarOfSchema(std::string_view schema) {
  GrammarText grammar;
  TANDEM_ASSIGN_OR_RETURN(const std::string root, SchemaToGrammar(schema, grammar));
  return grammar.Finish(root);
}

}  // namespace tandem
