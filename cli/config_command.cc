#include "cli/config_command.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_split.h"
#include "cli/commands.h"
#include "lib/base/strings.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/config_file.h"

namespace tandem {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kSchemaAddress[] = "https://json-schema.org/draft/2020-12/schema";

// A value as YAML and JSON have it.
OrderedJson ValueOf(const Flag& flag) {
  const std::string text = flag.show();
  switch (flag.kind) {
    case FlagKind::kInteger:
    case FlagKind::kReal:
    case FlagKind::kSwitch:
      return OrderedJson::parse(text);
    case FlagKind::kBytes:
      return OrderedJson::parse(text);
    case FlagKind::kList:
      return text.empty() ? OrderedJson::array()
                          : OrderedJson(std::vector<std::string>(absl::StrSplit(text, ',')));
    default:
      return text;
  }
}

OrderedJson SchemaOf(const Flag& flag) {
  OrderedJson schema;
  schema["description"] = flag.help;
  OrderedJson text = {{"type", "string"}};
  if (!flag.choices.empty()) text["enum"] = flag.choices;
  // Texts are read as they are written: a device's number is one, too.
  const OrderedJson any_text = {{"type", {"string", "number"}}};
  switch (flag.kind) {
    case FlagKind::kInteger:
    case FlagKind::kReal:
      schema["type"] = flag.kind == FlagKind::kReal ? "number" : "integer";
      schema["minimum"] = flag.least;
      schema["maximum"] = flag.most;
      break;
    case FlagKind::kBytes:
      schema["anyOf"] = {{{"type", "integer"}, {"minimum", flag.least}, {"maximum", flag.most}},
                         {{"type", "string"}, {"pattern", "^[0-9]+([KMGT]iB)?$"}}};
      break;
    case FlagKind::kSwitch:
      schema["type"] = "boolean";
      break;
    case FlagKind::kTime:
      schema["type"] = "string";
      schema["pattern"] = "^([0-9.]+(ns|us|ms|s|m|h))+$";
      break;
    case FlagKind::kList:
      // A text with commas is a list, too.
      schema["anyOf"] = {{{"type", "array"}, {"items", text}, {"minItems", 1}},
                         {{"type", "string"}, {"minLength", 1}}};
      break;
    default:
      schema.update(flag.choices.empty() ? any_text : text);
      if (flag.choices.empty()) schema["minLength"] = 1;
  }
  if (!flag.initial.empty()) schema["default"] = ValueOf(flag);
  return schema;
}

}  // namespace

int CommandConfigCheck(const std::string& file) {
  if (file.empty()) return Fail(absl::InvalidArgumentError("expected a file, found none"));
  ClusterSettings settings;
  FlagList known;
  AddClusterFlags(&known, &settings);
  const absl::StatusOr<ConfigFile> read = ReadConfigFile(file, &known);
  if (!read.ok()) return Fail(read.status());
  for (const std::string& problem : read->problems)
    std::fprintf(stderr, "tandem: error: %s\n", problem.c_str());
  if (!read->problems.empty()) return 1;
  std::printf("%s: good, %zu settings\n", file.c_str(), read->entries.size());
  return 0;
}

int CommandConfigShow(const FlagList& flags, bool json, bool changed) {
  OrderedJson all = OrderedJson::object();
  std::string text;
  for (const Flag& flag : flags.flags()) {
    if (flag.scope != FlagScope::kSetting || (changed && flag.show() == flag.initial)) continue;
    const std::string source = flag.source.empty() ? "default" : flag.source;
    all[flag.name] = {{"value", ValueOf(flag)}, {"source", source}};
    const bool unset = flag.show().empty();
    // A setting without a value cannot stand in a file.
    std::string row =
        unset ? Cat("# ", flag.name, ":") : Cat(flag.name, ": ", ValueOf(flag).dump());
    row.resize(std::max<std::size_t>(row.size() + 1, 40), ' ');
    text += Cat(row, unset ? "not set" : Cat("# ", source), "\n");
  }
  std::fputs(json ? Cat(all.dump(1), "\n").c_str() : text.c_str(), stdout);
  return 0;
}

int CommandConfigSchema() {
  ClusterSettings settings;
  FlagList flags;
  AddClusterFlags(&flags, &settings);
  std::fputs(ConfigSchema(flags).c_str(), stdout);
  return 0;
}

std::string ConfigSchema(const FlagList& flags) {
  OrderedJson schema = {{"$schema", kSchemaAddress},
                        {"title", "Settings of a Tandem cluster"},
                        {"type", "object"},
                        {"additionalProperties", false}};
  for (const Flag& flag : flags.flags()) {
    if (flag.scope == FlagScope::kSetting) schema["properties"][flag.name] = SchemaOf(flag);
  }
  return schema.dump(1) + "\n";
}

}  // namespace tandem
