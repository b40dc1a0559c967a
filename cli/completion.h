#pragma once

#include <string>

#include "lib/service/command_line.h"

namespace tandem {

// What bash (with the package bash-completion or without), zsh and fish need to complete the
// commands and flags of a program, their choices, and files where a path is meant.
std::string BashCompletion(const Command& program);
std::string ZshCompletion(const Command& program);
std::string FishCompletion(const Command& program);

// Prints one of them. Gives the exit code.
int CommandCompletion(const Command& program, const std::string& shell);

// Writes the manual pages of the program and all its commands, "tandem-up.1" and the like, into a
// folder. Gives the exit code.
int CommandManuals(const Command& program, const std::string& folder);

}  // namespace tandem
