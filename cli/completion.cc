#include "cli/completion.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "cli/commands.h"
#include "lib/base/strings.h"
#include "lib/service/command_pages.h"

namespace tandem {
namespace {

constexpr char kShells[] = "bash, zsh, fish";

// Calls `visit` with every command and how it is typed.
void ForEach(const Command& command, const std::string& path,
             const std::function<void(const Command&, const std::string&)>& visit) {
  visit(command, path);
  for (const Command& sub : command.commands) ForEach(sub, Cat(path, " ", sub.name), visit);
}

struct FlagWord {
  std::string name;
  std::string help;
  const Flag* flag = nullptr;  // null: of the framework
  bool takes_value = false;
  bool is_path = false;
};

std::vector<FlagWord> FlagsOf(const Command& command) {
  std::vector<FlagWord> words;
  for (const Flag& flag : command.flags.flags()) {
    words.push_back({"--" + flag.name, flag.help, &flag, flag.kind != FlagKind::kSwitch,
                     flag.kind == FlagKind::kPath});
  }
  if (command.reads_config)
    words.push_back({"--config", "YAML file with settings", nullptr, true, true});
  words.push_back({"--help", "print a summary and end"});
  words.push_back({"--man", "print the manual page and end"});
  return words;
}

std::vector<std::string> WordsOf(const Command& command) {
  std::vector<std::string> words;
  for (const Command& sub : command.commands) words.push_back(sub.name);
  words.insert(words.end(), command.word_choices.begin(), command.word_choices.end());
  return words;
}

bool WordIsPath(const Command& command) {
  const Flag* flag = command.flags.Find(command.word);
  return flag != nullptr && flag->kind == FlagKind::kPath;
}

// In single quotes for any of the shells.
std::string Quoted(const std::string& text) {
  return Cat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// The rest of _arguments' specification: brackets and colons mean something there.
std::string ZshText(const std::string& text) {
  return absl::StrReplaceAll(text, {{"[", "("}, {"]", ")"}, {":", "\\:"}, {"'", "'\\''"}});
}

std::string ZshFlag(const FlagWord& word) {
  std::string spec = Cat(word.name, word.takes_value ? "=" : "", "[", ZshText(word.help), "]");
  if (word.takes_value) {
    spec += ":value:";
    if (word.is_path) spec += "_files";
    if (word.flag != nullptr && !word.flag->choices.empty())
      spec += Cat("(", absl::StrJoin(word.flag->choices, " "), ")");
  }
  return Cat("'", spec, "'");
}

}  // namespace

std::string BashCompletion(const Command& program) {
  std::string cases;
  ForEach(program, program.name, [&](const Command& command, const std::string& path) {
    std::vector<std::string> flags;
    std::string values;
    for (const FlagWord& word : FlagsOf(command)) {
      flags.push_back(word.takes_value ? word.name + "=" : word.name);
      if (word.is_path) {
        values += Cat("        ", word.name, ") files=1 ;;\n");
      } else if (word.takes_value) {
        const std::string choices =
            word.flag != nullptr ? absl::StrJoin(word.flag->choices, " ") : "";
        values += Cat("        ", word.name, ") choices=\"", choices, "\" ;;\n");
      }
    }
    cases += Cat("    \"", path, "\")\n      flags=\"", absl::StrJoin(flags, " "),
                 "\"\n      words=\"", absl::StrJoin(WordsOf(command), " "), "\"\n",
                 WordIsPath(command) ? "      word_files=1\n" : "", "      case \"$flag\" in\n",
                 values, "      esac ;;\n");
  });
  std::string paths;
  ForEach(program, program.name, [&](const Command& command, const std::string& path) {
    if (!command.commands.empty())
      paths +=
          Cat("      \"", path, "\") known=\"", absl::StrJoin(WordsOf(command), " "), "\" ;;\n");
  });
  return Cat(R"(# bash completion of tandem
_)",
             program.name, R"(() {
  local current=${COMP_WORDS[COMP_CWORD]} flag="" path=)",
             program.name,
             R"( word i known flags words choices="" files="" word_files=""
  # "=" may be a word of its own here.
  if [[ $current == "=" ]]; then current=""; flag=${COMP_WORDS[COMP_CWORD-1]}
  elif [[ ${COMP_WORDS[COMP_CWORD-1]} == "=" ]]; then flag=${COMP_WORDS[COMP_CWORD-2]}
  elif [[ ${COMP_WORDS[COMP_CWORD-1]} == --* ]]; then flag=${COMP_WORDS[COMP_CWORD-1]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]} known=""
    case "$path" in
)",
             paths, R"(    esac
    [[ " $known " == *" $word "* ]] && path="$path $word"
  done
  case "$path" in
)",
             cases, R"(  esac
  COMPREPLY=()
  if [[ -n $files || ( -n $word_files && $current != -* && -z $choices ) ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  elif [[ -n $choices ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
  return 0
}
complete -F _)",
             program.name, " ", program.name, "\n");
}

std::string ZshCompletion(const Command& program) {
  std::string functions;
  ForEach(program, program.name, [&](const Command& command, const std::string& path) {
    const std::string name = Cat("_", absl::StrReplaceAll(path, {{" ", "_"}}));
    std::string body = Cat(name, "() {\n");
    if (command.commands.empty()) {
      body += "  _arguments -s";
      for (const FlagWord& word : FlagsOf(command)) body += Cat(" \\\n    ", ZshFlag(word));
      if (WordIsPath(command)) body += " \\\n    ':file:_files'";
      if (const auto words = WordsOf(command); !words.empty())
        body += Cat(" \\\n    ':word:(", absl::StrJoin(words, " "), ")'");
      functions += Cat(body, "\n}\n\n");
      return;
    }
    body += "  local -a commands\n  commands=(\n";
    std::string cases;
    for (const Command& sub : command.commands) {
      body += Cat("    '", sub.name, ":", ZshText(sub.summary), "'\n");
      cases += Cat("        ", sub.name, ") ", name, "_", sub.name, " ;;\n");
    }
    body += "  )\n  local curcontext=$curcontext state line\n  _arguments -C";
    for (const FlagWord& word : FlagsOf(command)) body += Cat(" \\\n    ", ZshFlag(word));
    body += " \\\n    '1:command:->command' '*::argument:->argument'\n";
    body += "  case $state in\n    command) _describe command commands ;;\n";
    body += Cat("    argument)\n      case $line[1] in\n", cases, "      esac ;;\n  esac\n");
    functions += Cat(body, "}\n\n");
  });
  return Cat("#compdef ", program.name, "\n\n", functions, "_", program.name, " \"$@\"\n");
}

std::string FishCompletion(const Command& program) {
  std::string text =
      Cat("# fish completion of ", program.name, "\ncomplete -c ", program.name, " -f\n");
  ForEach(program, program.name, [&](const Command& command, const std::string& path) {
    // The condition under which this command is the one that is typed.
    std::vector<std::string> typed = absl::StrSplit(path, ' ');
    std::string condition = "__fish_use_subcommand";
    if (typed.size() > 1) {
      condition = "";
      for (std::size_t i = 1; i < typed.size(); ++i)
        condition += Cat(i > 1 ? "; and " : "", "__fish_seen_subcommand_from ", typed[i]);
    }
    std::vector<std::string> names;
    for (const Command& sub : command.commands) names.push_back(sub.name);
    const std::string start = Cat("complete -c ", program.name, " -n ");
    const std::string none_yet =
        typed.size() > 1 && !names.empty()
            ? Cat(condition, "; and not __fish_seen_subcommand_from ", absl::StrJoin(names, " "))
            : condition;
    for (const Command& sub : command.commands)
      text += Cat(start, Quoted(none_yet), " -a ", sub.name, " -d ", Quoted(sub.summary), "\n");
    if (!command.word_choices.empty()) {
      text += Cat(start, Quoted(condition), " -a ",
                  Quoted(absl::StrJoin(command.word_choices, " ")), "\n");
    }
    if (WordIsPath(command)) text += Cat(start, Quoted(condition), " -F\n");
    for (const FlagWord& word : FlagsOf(command)) {
      text += Cat(start, Quoted(condition), " -l ", word.name.substr(2), " -d ", Quoted(word.help));
      if (word.takes_value) text += word.is_path ? " -r -F" : " -x";
      if (word.flag != nullptr && !word.flag->choices.empty())
        text += Cat(" -a ", Quoted(absl::StrJoin(word.flag->choices, " ")));
      text += "\n";
    }
  });
  return text;
}

int CommandCompletion(const Command& program, const std::string& shell) {
  std::string script;
  if (shell == "bash") script = BashCompletion(program);
  if (shell == "zsh") script = ZshCompletion(program);
  if (shell == "fish") script = FishCompletion(program);
  if (script.empty()) {
    return Fail(absl::InvalidArgumentError(Cat("expected one of ", kShells, ", found ",
                                               shell.empty() ? "none" : Cat("'", shell, "'"))));
  }
  std::fputs(script.c_str(), stdout);
  return 0;
}

int CommandManuals(const Command& program, const std::string& folder) {
  if (folder.empty()) return Fail(absl::InvalidArgumentError("expected a folder, found none"));
  absl::Status status;
  ForEach(program, program.name, [&](const Command& command, const std::string& path) {
    const std::string file = Cat(folder, "/", absl::StrReplaceAll(path, {{" ", "-"}}), ".1");
    errno = 0;
    std::ofstream out(file, std::ios::binary);
    out << ManualPage(command, path);
    if (!out.flush() && status.ok())
      status =
          absl::UnavailableError(Cat("'", file, "' cannot be written: ", std::strerror(errno)));
  });
  return status.ok() ? 0 : Fail(status);
}

}  // namespace tandem
