#include "lib/constrain/schema_merge.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::array<std::string_view, 7> kTypes = {"object",  "array",   "string", "number",
                                                    "integer", "boolean", "null"};
constexpr std::array<std::string_view, 6> kCounts = {"minLength",     "maxLength", "minProperties",
                                                     "maxProperties", "minItems",  "maxItems"};
constexpr std::array<std::string_view, 4> kBounds = {"minimum", "maximum", "exclusiveMinimum",
                                                     "exclusiveMaximum"};

template <typename List>
bool Holds(const List& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

absl::Status Expected(const std::string& path, std::string_view key, std::string_view what) {
  return SchemaError(Cat(path, "/", key), Cat("expected ", what));
}

absl::Status NormaliseType(FlatSchema& schema, const std::string& path) {
  const auto type = schema.find("type");
  if (type == schema.end()) return absl::OkStatus();
  if (type->is_string()) *type = SchemaJson::array({*type});
  if (!type->is_array() || type->empty())
    return Expected(path, "type", "a type or a list of types");
  SchemaJson types = SchemaJson::array();
  for (const SchemaJson& one : *type) {
    if (!one.is_string() || !Holds(kTypes, one.get<std::string>()))
      return Expected(path, "type", "object, array, string, number, integer, boolean or null");
    const bool covered = one == "integer" && Holds(*type, "number");
    if (!covered && !Holds(types, one.get<std::string>())) types.push_back(one);
  }
  *type = std::move(types);
  return absl::OkStatus();
}

absl::Status NormaliseNumbers(FlatSchema& schema, const std::string& path) {
  for (const std::string_view key : kCounts) {
    const auto count = schema.find(std::string(key));
    if (count == schema.end()) continue;
    const bool whole = count->is_number() && count->get<double>() >= 0 &&
                       count->get<double>() <= 1e9 &&
                       count->get<double>() == static_cast<double>(count->get<std::int64_t>());
    if (!whole) return Expected(path, key, "a whole number from 0 to 1000000000");
    *count = count->get<std::int64_t>();
  }
  for (const std::string_view key : kBounds) {
    const auto bound = schema.find(std::string(key));
    if (bound != schema.end() && !bound->is_number()) return Expected(path, key, "a number");
  }
  const auto multiple = schema.find("multipleOf");
  if (multiple != schema.end()) {
    const bool all_are = multiple->is_number() && multiple->get<double>() == 1 &&
                         TypesOf(schema) == std::vector<std::string>{"integer"};
    if (!all_are) return SchemaError(path, "'multipleOf' cannot be enforced");
    schema.erase("multipleOf");
  }
  return absl::OkStatus();
}

bool IsSchema(const SchemaJson& json) { return json.is_object() || json.is_boolean(); }

absl::Status NormaliseParts(FlatSchema& schema, const std::string& path) {
  if (schema.contains("items") && schema["items"].is_array()) {
    if (schema.contains("prefixItems")) return Expected(path, "items", "a schema");
    schema["prefixItems"] = SchemaJson(schema["items"]);
    schema.erase("items");
  }
  for (const char* key : {"items", "additionalProperties"}) {
    if (schema.contains(key) && !IsSchema(schema[key])) return Expected(path, key, "a schema");
  }
  if (schema.contains("prefixItems")) {
    const SchemaJson& list = schema["prefixItems"];
    if (!list.is_array() || !std::all_of(list.begin(), list.end(), IsSchema))
      return Expected(path, "prefixItems", "a list of schemas");
  }
  if (schema.contains("properties")) {
    const SchemaJson& properties = schema["properties"];
    if (!properties.is_object() || !std::all_of(properties.begin(), properties.end(), IsSchema))
      return Expected(path, "properties", "an object of schemas");
  }
  if (schema.contains("required")) {
    const SchemaJson& names = schema["required"];
    const auto is_string = [](const SchemaJson& name) { return name.is_string(); };
    if (!names.is_array() || !std::all_of(names.begin(), names.end(), is_string))
      return Expected(path, "required", "a list of names");
  }
  for (const char* key : {"pattern", "format"}) {
    if (schema.contains(key) && !schema[key].is_string()) return Expected(path, key, "a string");
  }
  if (schema.contains("uniqueItems")) {
    if (!schema["uniqueItems"].is_boolean()) return Expected(path, "uniqueItems", "a boolean");
    if (schema["uniqueItems"].get<bool>())
      return SchemaError(path, "'uniqueItems' cannot be enforced");
    schema.erase("uniqueItems");
  }
  return absl::OkStatus();
}

bool HasType(const SchemaJson& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number" || value.is_number_integer()) return value.is_number();
  return value.is_number() &&
         value.get<double>() == static_cast<double>(static_cast<std::int64_t>(
                                    std::clamp(value.get<double>(), -9e15, 9e15)));
}

// Equal as JSON Schema has it: the order of members does not count, nor does 1 against 1.0.
bool SameValue(const SchemaJson& a, const SchemaJson& b) {
  return nlohmann::json::parse(a.dump()) == nlohmann::json::parse(b.dump());
}

SchemaJson BothTypes(const SchemaJson& a, const SchemaJson& b) {
  SchemaJson both = SchemaJson::array();
  for (const SchemaJson& one : a) {
    const auto name = one.get<std::string>();
    if (Holds(b, name)) {
      both.push_back(one);
    } else if (name == "number" && Holds(b, "integer")) {
      both.push_back("integer");
    } else if (name == "integer" && Holds(b, "number")) {
      both.push_back(one);
    }
  }
  return both;
}

SchemaJson AllOf(const SchemaJson& a, const SchemaJson& b) {
  return {{"allOf", SchemaJson::array({a, b})}};
}

// The properties and what holds for the others: what one schema says of others holds for those that
// only the other one names.
void MergeProperties(const FlatSchema& a, const FlatSchema& b, FlatSchema& merged) {
  SchemaJson properties = SchemaJson::object();
  const auto others = [](const FlatSchema& schema) {
    const auto found = schema.find("additionalProperties");
    return found == schema.end() ? SchemaJson(true) : *found;
  };
  const auto take = [&](const FlatSchema& from, const FlatSchema& beside) {
    if (!from.contains("properties")) return;
    for (const auto& [name, value] : from["properties"].items()) {
      if (properties.contains(name)) continue;
      const bool both = beside.contains("properties") && beside["properties"].contains(name);
      const SchemaJson more = both ? beside["properties"][name] : others(beside);
      properties[name] = more == true ? value : AllOf(value, more);
    }
  };
  take(a, b);
  take(b, a);
  if (!properties.empty()) merged["properties"] = std::move(properties);
  if (!a.contains("additionalProperties") && !b.contains("additionalProperties")) return;
  const SchemaJson in_a = others(a);
  const SchemaJson in_b = others(b);
  merged["additionalProperties"] = in_a == true ? in_b : in_b == true ? in_a : AllOf(in_a, in_b);
}

absl::Status MergeKeyword(const std::string& key, const SchemaJson& mine, const SchemaJson& theirs,
                          const std::string& path, FlatSchema& merged) {
  if (mine == theirs) {
    merged[key] = mine;
  } else if (key == "type") {
    merged[key] = BothTypes(mine, theirs);
  } else if (key == "enum") {
    SchemaJson both = SchemaJson::array();
    for (const SchemaJson& value : mine) {
      const auto same = [&](const SchemaJson& other) { return SameValue(value, other); };
      if (std::any_of(theirs.begin(), theirs.end(), same)) both.push_back(value);
    }
    merged[key] = std::move(both);
  } else if (key == "required") {
    SchemaJson names = mine;
    for (const SchemaJson& name : theirs) {
      if (!Holds(names, name.get<std::string>())) names.push_back(name);
    }
    merged[key] = std::move(names);
  } else if (key.rfind("min", 0) == 0 || key == "exclusiveMinimum") {
    merged[key] = mine.get<double>() > theirs.get<double>() ? mine : theirs;
  } else if (key.rfind("max", 0) == 0 || key == "exclusiveMaximum") {
    merged[key] = mine.get<double>() < theirs.get<double>() ? mine : theirs;
  } else if (key == "items") {
    merged[key] = AllOf(mine, theirs);
  } else {
    return SchemaError(path, Cat("two different '", key, "' of the same value cannot be enforced"));
  }
  return absl::OkStatus();
}

// Whether anything can fit: of an enum what has one of the types is left.
bool Settle(FlatSchema& schema) {
  if (schema.contains("type") && schema["type"].empty()) return false;
  const auto values = schema.find("enum");
  if (values == schema.end()) return true;
  if (schema.contains("type")) {
    const std::vector<std::string> types = TypesOf(schema);
    SchemaJson left = SchemaJson::array();
    for (const SchemaJson& value : *values) {
      const auto fits = [&](const std::string& type) { return HasType(value, type); };
      if (std::any_of(types.begin(), types.end(), fits)) left.push_back(value);
    }
    *values = std::move(left);
  }
  return !values->empty();
}

}  // namespace

absl::Status NormaliseSchema(FlatSchema& schema, const std::string& path) {
  TANDEM_RETURN_IF_ERROR(NormaliseType(schema, path));
  TANDEM_RETURN_IF_ERROR(NormaliseNumbers(schema, path));
  TANDEM_RETURN_IF_ERROR(NormaliseParts(schema, path));
  if (schema.contains("enum") && !schema["enum"].is_array())
    return Expected(path, "enum", "a list of values");
  if (schema.contains("const")) {
    const SchemaJson one = SchemaJson::array({schema["const"]});
    if (schema.contains("enum")) {
      FlatSchema merged;
      TANDEM_RETURN_IF_ERROR(MergeKeyword("enum", one, schema["enum"], path, merged));
      schema["enum"] = merged["enum"];
    } else {
      schema["enum"] = one;
    }
    schema.erase("const");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<FlatSchema>> MergeSchemas(const FlatSchema& a, const FlatSchema& b,
                                                       const std::string& path) {
  FlatSchema merged = SchemaJson::object();
  const auto is_array_part = [](const std::string& key) {
    return key == "items" || key == "prefixItems";
  };
  // What comes after prefixItems is said by items alone, of the same schema.
  const bool positions = a.contains("prefixItems") || b.contains("prefixItems");
  for (const auto& [key, value] : a.items()) {
    if (key == "properties" || key == "additionalProperties") continue;
    if (b.contains(key)) {
      TANDEM_RETURN_IF_ERROR(MergeKeyword(key, value, b[key], path, merged));
    } else {
      merged[key] = value;
    }
  }
  for (const auto& [key, value] : b.items()) {
    if (key == "properties" || key == "additionalProperties") continue;
    if (!a.contains(key)) merged[key] = value;
  }
  const auto array_parts = [&](const FlatSchema& schema) {
    return std::any_of(schema.items().begin(), schema.items().end(),
                       [&](const auto& item) { return is_array_part(item.key()); });
  };
  if (positions && array_parts(a) && array_parts(b) &&
      (a.value("items", SchemaJson()) != b.value("items", SchemaJson()) ||
       a.value("prefixItems", SchemaJson()) != b.value("prefixItems", SchemaJson())))
    return SchemaError(path, "two different 'prefixItems' or 'items' cannot be enforced together");
  MergeProperties(a, b, merged);
  if (!Settle(merged)) return std::optional<FlatSchema>();
  return std::optional<FlatSchema>(std::move(merged));
}

}  // namespace tandem
