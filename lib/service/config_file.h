#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/service/flags.h"

namespace tandem {

// A configuration file is a YAML mapping (JSON is YAML, too) with the names of settings as keys.
// Values are written as YAML has them: numbers and true or false without quotes, lists as sequences
// (or texts with commas), times and amounts of bytes with their units ("90s", 4GiB). A text that
// YAML would take for true, false or nothing needs quotes.
struct ConfigFile {
  struct Entry {
    std::string key;
    std::string value;   // as the flag takes it
    std::string source;  // "tandem.yaml:3"
  };
  std::vector<Entry> entries;
  // What is wrong with the entries that are not above: "tandem.yaml:3: ...".
  std::vector<std::string> problems;
};

// Reads the text of a file; `name` is what messages call it. Every value is checked against `known`
// and set there; the flags that are not of the scope kSetting are not known. INVALID_ARGUMENT when
// it is not a YAML mapping, or too large.
absl::StatusOr<ConfigFile> ParseConfigFile(std::string_view text, const std::string& name,
                                           FlagList* known);
// NOT_FOUND, with the reason, when it cannot be read.
absl::StatusOr<ConfigFile> ReadConfigFile(const std::string& path, FlagList* known);

}  // namespace tandem
