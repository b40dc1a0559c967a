#pragma once

#include <string>

#include "lib/service/command_line.h"

namespace tandem {

// What --help prints. `path` is the command as it is typed: "tandem config show".
std::string HelpText(const Command& command, const std::string& path);

// The command's manual page in section 1, in roff's man macros.
std::string ManualPage(const Command& command, const std::string& path);

// "N", "PATH", "a|b|c": what stands for the flag's value in help and synopsis; empty for switches.
std::string Placeholder(const Flag& flag);

}  // namespace tandem
