#pragma once

#include <string>

#include "lib/service/flags.h"

namespace tandem {

// The subcommands of `tandem config`. Each returns the exit code.

// Prints everything that is wrong with the file, one problem a line, or that it is good.
int CommandConfigCheck(const std::string& file);
// Prints the settings among the flags, with where each value comes from; `changed`: only those that
// are not at their defaults.
int CommandConfigShow(const FlagList& flags, bool json, bool changed);
// Prints the JSON schema of configuration files.
int CommandConfigSchema();

// The JSON schema (draft 2020-12) of a file with the settings among these flags.
std::string ConfigSchema(const FlagList& flags);

}  // namespace tandem
