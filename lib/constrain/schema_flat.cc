#include "lib/constrain/schema_flat.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/constrain/schema_merge.h"

namespace tandem {
namespace {

// References and combinations inside one another.
constexpr int kMaxFlattenDepth = 48;
// In all, over one schema.
constexpr int kMaxFlattenSteps = 20000;
constexpr int kMaxApartDepth = 6;

// They say nothing about which values fit.
constexpr std::array<std::string_view, 16> kAnnotations = {
    "$schema",       "$comment",     "title",           "description",     "default", "examples",
    "deprecated",    "readOnly",     "writeOnly",       "$defs",           "example", "definitions",
    "discriminator", "externalDocs", "contentEncoding", "contentMediaType"};

constexpr std::array<std::string_view, 22> kPlainKeywords = {
    "type",       "enum",       "const",         "properties",       "required",
    "minLength",  "maxLength",  "minProperties", "maxProperties",    "additionalProperties",
    "pattern",    "format",     "minimum",       "exclusiveMinimum", "maximum",
    "minItems",   "maxItems",   "prefixItems",   "exclusiveMaximum", "items",
    "multipleOf", "uniqueItems"};

template <typename List>
bool Holds(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::string Unescaped(std::string_view token) {
  std::string text;
  for (std::size_t i = 0; i < token.size(); ++i) {
    int code = 0;
    if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1')) {
      text.push_back(token[++i] == '0' ? '~' : '/');
    } else if (token[i] == '%' && i + 2 < token.size() &&
               absl::SimpleHexAtoi(AbslView(token.substr(i + 1, 2)), &code)) {
      text.push_back(static_cast<char>(code));
      i += 2;
    } else {
      text.push_back(token[i]);
    }
  }
  return text;
}

}  // namespace

absl::Status SchemaError(std::string_view path, std::string_view message) {
  return absl::InvalidArgumentError(Cat("schema: ", path, ": ", message));
}

std::vector<std::string> TypesOf(const FlatSchema& schema) {
  const auto type = schema.find("type");
  if (type == schema.end()) return {"object", "array", "string", "number", "boolean", "null"};
  std::vector<std::string> types;
  for (const SchemaJson& one : *type) types.push_back(one.get<std::string>());
  return types;
}

absl::StatusOr<const SchemaJson*> SchemaFlattener::Resolve(std::string_view reference,
                                                           const std::string& path) const {
  const bool local =
      !reference.empty() && reference[0] == '#' && (reference.size() == 1 || reference[1] == '/');
  if (!local) {
    return SchemaError(
        path,
        Cat("expected a $ref such as #/$defs/NAME into this very schema, found '", reference, "'"));
  }
  const SchemaJson* at = &root_;
  std::string_view left = reference.substr(1);
  while (!left.empty()) {
    left.remove_prefix(1);
    const std::size_t end = std::min(left.find('/'), left.size());
    const std::string token = Unescaped(left.substr(0, end));
    left.remove_prefix(end);
    std::size_t index = 0;
    if (at->is_object() && at->contains(token)) {
      at = &(*at)[token];
    } else if (at->is_array() && absl::SimpleAtoi(token, &index) && index < at->size()) {
      at = &(*at)[index];
    } else {
      return SchemaError(path, Cat("$ref '", reference, "' points to nothing"));
    }
  }
  return at;
}

absl::StatusOr<std::vector<FlatSchema>> SchemaFlattener::Flatten(const SchemaJson& schema,
                                                                 const std::string& path) {
  return FlattenAt(schema, path, 0);
}

absl::StatusOr<std::vector<FlatSchema>> SchemaFlattener::FlattenAt(const SchemaJson& schema,
                                                                   const std::string& path,
                                                                   int depth) {
  if (depth > kMaxFlattenDepth)
    return SchemaError(path, "a reference leads to itself, or too many stand in one another");
  if (++steps_ > kMaxFlattenSteps) return SchemaError(path, "the whole schema is too large");
  if (schema.is_boolean()) {
    if (schema.get<bool>()) return std::vector<FlatSchema>{SchemaJson::object()};
    return std::vector<FlatSchema>{};
  }
  if (!schema.is_object()) return SchemaError(path, "expected an object or a boolean");
  SchemaJson own = SchemaJson::object();
  std::vector<FlatSchema> all = {SchemaJson::object()};
  const auto combine = [&](const std::vector<FlatSchema>& more) -> absl::Status {
    std::vector<FlatSchema> merged;
    for (const FlatSchema& a : all) {
      for (const FlatSchema& b : more) {
        TANDEM_ASSIGN_OR_RETURN(std::optional<FlatSchema> both, MergeSchemas(a, b, path));
        if (both.has_value()) merged.push_back(*std::move(both));
      }
    }
    if (merged.size() > kMaxAlternatives)
      return SchemaError(path, Cat("more than ", kMaxAlternatives, " alternatives together"));
    all = std::move(merged);
    return absl::OkStatus();
  };
  for (const auto& [key, value] : schema.items()) {
    const std::string at = Cat(path, "/", key);
    if (key == "$ref") {
      if (!value.is_string()) return SchemaError(at, "expected a string");
      const std::string reference = value.get<std::string>();
      TANDEM_ASSIGN_OR_RETURN(const SchemaJson* target, Resolve(reference, path));
      TANDEM_ASSIGN_OR_RETURN(const std::vector<FlatSchema> more,
                              FlattenAt(*target, reference, depth + 1));
      TANDEM_RETURN_IF_ERROR(combine(more));
    } else if (key == "allOf" || key == "anyOf" || key == "oneOf") {
      if (!value.is_array() || value.empty()) return SchemaError(at, "expected a list of schemas");
      if (key != "allOf") {
        TANDEM_ASSIGN_OR_RETURN(const std::vector<FlatSchema> more,
                                Union(value, at, key == "oneOf", depth));
        TANDEM_RETURN_IF_ERROR(combine(more));
        continue;
      }
      for (std::size_t i = 0; i < value.size(); ++i) {
        TANDEM_ASSIGN_OR_RETURN(const std::vector<FlatSchema> more,
                                FlattenAt(value[i], Cat(at, "/", i), depth + 1));
        TANDEM_RETURN_IF_ERROR(combine(more));
      }
    } else if (Holds(kPlainKeywords, key)) {
      own[key] = value;
    } else if (key == "$id" && &schema == &root_) {
      // References into this very schema do not need it.
      continue;
    } else if (!Holds(kAnnotations, key) && key.rfind("x-", 0) != 0) {
      return SchemaError(path, Cat("'", key, "' cannot be enforced"));
    }
  }
  TANDEM_RETURN_IF_ERROR(NormaliseSchema(own, path));
  TANDEM_RETURN_IF_ERROR(combine({std::move(own)}));
  return all;
}

absl::StatusOr<std::vector<FlatSchema>> SchemaFlattener::Union(const SchemaJson& list,
                                                               const std::string& path,
                                                               bool exclusive, int depth) {
  std::vector<std::vector<FlatSchema>> branches;
  std::vector<FlatSchema> all;
  for (std::size_t i = 0; i < list.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(std::vector<FlatSchema> branch,
                            FlattenAt(list[i], Cat(path, "/", i), depth + 1));
    all.insert(all.end(), branch.begin(), branch.end());
    branches.push_back(std::move(branch));
    if (all.size() > kMaxAlternatives)
      return SchemaError(path, Cat("more than ", kMaxAlternatives, " alternatives together"));
  }
  if (exclusive) TANDEM_RETURN_IF_ERROR(CheckExclusive(branches, path));
  return all;
}

absl::Status SchemaFlattener::CheckExclusive(const std::vector<std::vector<FlatSchema>>& branches,
                                             const std::string& path) {
  for (std::size_t i = 0; i < branches.size(); ++i) {
    for (std::size_t j = i + 1; j < branches.size(); ++j) {
      for (const FlatSchema& a : branches[i]) {
        for (const FlatSchema& b : branches[j]) {
          if (AreApart(a, b, 0)) continue;
          return SchemaError(path, Cat("it is not certain that no value fits both ", i, " and ", j,
                                       ": give them different types, or a required property "
                                       "whose const or enum tells them apart; or use anyOf"));
        }
      }
    }
  }
  return absl::OkStatus();
}

bool SchemaFlattener::AreApart(const FlatSchema& a, const FlatSchema& b, int depth) {
  if (depth > kMaxApartDepth) return false;
  const absl::StatusOr<std::optional<FlatSchema>> both = MergeSchemas(a, b, "");
  // What cannot be merged may still have values in common.
  if (both.ok() && !both->has_value()) return true;
  const auto only_objects = [](const FlatSchema& schema) {
    const std::vector<std::string> types = TypesOf(schema);
    return types.size() == 1 && types[0] == "object";
  };
  if (!only_objects(a) || !only_objects(b)) return false;
  const auto property = [](const FlatSchema& schema, const std::string& name) -> const SchemaJson* {
    const auto properties = schema.find("properties");
    if (properties == schema.end() || !properties->contains(name)) return nullptr;
    return &(*properties)[name];
  };
  const auto required = a.find("required");
  if (required == a.end() || !b.contains("required")) return false;
  for (const SchemaJson& entry : *required) {
    const std::string name = entry.get<std::string>();
    const SchemaJson* in_a = property(a, name);
    const SchemaJson* in_b = property(b, name);
    if (in_a == nullptr || in_b == nullptr || !Holds(b["required"], name)) continue;
    const auto ways_a = FlattenAt(*in_a, "", depth + 1);
    const auto ways_b = FlattenAt(*in_b, "", depth + 1);
    if (!ways_a.ok() || !ways_b.ok()) continue;
    const bool apart = std::all_of(ways_a->begin(), ways_a->end(), [&](const FlatSchema& x) {
      return std::all_of(ways_b->begin(), ways_b->end(),
                         [&](const FlatSchema& y) { return AreApart(x, y, depth + 1); });
    });
    if (apart) return true;
  }
  return false;
}

}  // namespace tandem
