#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/service/flags.h"

namespace tandem {

// A program, or one of its subcommands. Help, manual pages and completion are made of it.
struct Command {
  // "tandem", "up"
  std::string name;
  // A line without a full stop.
  std::string summary;
  // Paragraphs for the manual page and --help, with empty lines between them; may be empty.
  std::string description = {};
  struct Example {
    std::string command;
    std::string what;
  };
  std::vector<Example> examples = {};
  FlagList flags = {};
  // The flag that a single word sets; empty: no word is taken.
  std::string word = {};
  // What the word may be, where that is known; for completion.
  std::vector<std::string> word_choices = {};
  // Whether --config, and TANDEM_CONFIG, name a file with settings. With --only_flags neither that
  // nor the environment counts: for one who starts this program and has read them already.
  bool reads_config = false;
  // Empty: a subcommand is needed.
  std::function<int()> run = {};
  std::vector<Command> commands = {};
};

// Reads the command line, the environment and the configuration file into the flags of the command
// that is meant, and runs it. Each source wins over those after it: the command line, the
// environment, the file, the default. The file must be good as a whole: also what other programs
// read of it.
//
// Every command has --help and --man (its manual page) besides its flags, the program --version.
// Gives the exit code: that of `run`, 0 after help, 1 after one line on standard error.
int RunCommandLine(Command* program, const std::vector<std::string>& arguments);

// What a command line says, in the order in which it says it.
struct Invocation {
  Command* command = nullptr;
  // "tandem config show"
  std::string path;
  std::vector<std::pair<std::string, std::string>> given;
  bool help = false;
  bool manual = false;
  bool version = false;
  bool only_flags = false;
};
// INVALID_ARGUMENT: unknown flags and commands, missing values. Sets no flag. The flags' values are
// not looked at.
absl::StatusOr<Invocation> ParseArguments(Command* program,
                                          const std::vector<std::string>& arguments);
// Sets the flags of the command: the file, the environment, the command line.
absl::Status ApplySources(const Invocation& invocation);

// "tandem-gateway: error: message".
void PrintError(std::string_view program, const absl::Status& status);

}  // namespace tandem
