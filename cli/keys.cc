#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/commands.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/service/api_keys.h"

namespace tandem {
namespace {

absl::Status Add(const KeyOptions& options) {
  const std::string key = MakeApiKey();
  // The words of the file: read as it will be.
  const std::string line = Cat(options.name, " sha256:", std::string(64, '0'),
                               " scopes=", absl::StrJoin(options.scopes, ","));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<ApiKeyRule> rules, ParseKeyRules(line));
  if (rules.size() != 1) return absl::InvalidArgumentError("--name: expected a name, found none");
  ApiKeyRule rule = rules.front();
  rule.sha256 = HashApiKey(key);
  rule.requests = options.requests;
  rule.requests_per_minute = options.requests_per_minute;
  rule.tokens_per_minute = options.tokens_per_minute;
  TANDEM_RETURN_IF_ERROR(AddKeyRule(options.file, rule));
  std::printf("%s\n", key.c_str());
  std::fprintf(stderr, "This is the key '%s'. It is kept nowhere: the file has its hash.\n",
               rule.name.c_str());
  return absl::OkStatus();
}

absl::Status List(const KeyOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<ApiKeyRule> rules, ReadKeyRules(options.file));
  for (const ApiKeyRule& rule : rules) {
    // The hash says nothing to people.
    std::vector<std::string> words = absl::StrSplit(FormatKeyRule(rule), ' ');
    words.erase(words.begin() + 1);
    std::printf("%s\n", absl::StrJoin(words, "  ").c_str());
  }
  return absl::OkStatus();
}

int Run(const KeyOptions& options, absl::Status (*action)(const KeyOptions& options)) {
  if (options.file.empty())
    return Fail(absl::InvalidArgumentError("--file: expected the key file, found none"));
  const absl::Status status = action(options);
  return status.ok() ? 0 : Fail(status);
}

absl::Status CheckName(const KeyOptions& options) {
  if (!options.name.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("--name: expected the name of a key, found none");
}

absl::Status Remove(const KeyOptions& options) {
  TANDEM_RETURN_IF_ERROR(CheckName(options));
  return RemoveKeyRule(options.file, options.name);
}

}  // namespace

int CommandKeyAdd(const KeyOptions& options) { return Run(options, Add); }
int CommandKeyList(const KeyOptions& options) { return Run(options, List); }
int CommandKeyRemove(const KeyOptions& options) { return Run(options, Remove); }

}  // namespace tandem
