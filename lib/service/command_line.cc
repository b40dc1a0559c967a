#include "lib/service/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/command_pages.h"
#include "lib/service/config_file.h"

namespace tandem {
namespace {

constexpr char kConfigVariable[] = "TANDEM_CONFIG";

// CLI11 takes "[a,b]" apart, and takes the next word as the value of "--flag=". A character in
// front keeps it from both; it is taken away again.
constexpr char kShield = '\x1f';

std::vector<std::string> Shielded(const std::vector<std::string>& arguments) {
  std::vector<std::string> shielded;
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
    const std::size_t value = equals == std::string::npos ? 0 : equals + 1;
    const std::string_view text = std::string_view(argument).substr(value);
    const bool taken_apart =
        (text.empty() && value > 0) || (text.starts_with('[') && text.ends_with(']'));
    shielded.push_back(taken_apart ? Cat(argument.substr(0, value), std::string(1, kShield), text)
                                   : argument);
  }
  return shielded;
}

std::string Unshielded(const std::string& text) {
  return !text.empty() && text.front() == kShield ? text.substr(1) : text;
}

// The tree of CLI11's apps for a tree of commands, and what was found.
class Parser {
 public:
  explicit Parser(Command* program) : app_(program->summary, program->name) {
    Describe(program, program->name, &app_);
    app_.add_flag("--version", found_.version);
  }

  absl::StatusOr<Invocation> Parse(const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed = Shielded(arguments);
    std::reverse(reversed.begin(), reversed.end());
    absl::Status status;
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::ArgumentMismatch& e) {
      // "--context: 1 required TEXT missing"
      const std::string what = e.what();
      status = absl::InvalidArgumentError(
          Cat(what.substr(0, what.find(':')), ": expected a value, found none"));
    } catch (const CLI::Error& e) {
      status = absl::InvalidArgumentError(e.what());
    }
    const CLI::App* app = &app_;
    absl::Status words = CheckWords(*app);
    while (!app->get_subcommands().empty()) {
      app = app->get_subcommands().front();
      if (words.ok()) words = CheckWords(*app);
    }
    found_.command = commands_.at(app).first;
    found_.path = commands_.at(app).second;
    if (found_.help || found_.manual || found_.version) return std::move(found_);
    TANDEM_RETURN_IF_ERROR(words);
    TANDEM_RETURN_IF_ERROR(status);
    if (!found_.command->run) {
      return absl::InvalidArgumentError(
          Cat("expected a command, found none (", found_.path, " --help lists them)"));
    }
    return std::move(found_);
  }

 private:
  void Describe(Command* command, const std::string& path, CLI::App* app) {
    commands_[app] = {command, path};
    app->set_help_flag();
    app->allow_extras();
    app->add_flag("-h,--help", found_.help);
    app->add_flag("--man", found_.manual);
    for (const Flag& flag : command->flags.flags()) AddFlag(flag, app);
    if (command->reads_config) {
      AddOption("config", "--config", app);
      app->add_flag("--only_flags", found_.only_flags);
    }
    if (!command->word.empty()) AddOption(command->word, "word", app);
    for (Command& sub : command->commands)
      Describe(&sub, Cat(path, " ", sub.name), app->add_subcommand(sub.name));
    app->require_subcommand(0, 1);
  }

  void AddFlag(const Flag& flag, CLI::App* app) {
    const std::string name = "--" + flag.name;
    if (flag.kind != FlagKind::kSwitch) return AddOption(flag.name, name, app);
    app->add_flag(name, switch_text_)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->each([this, name = flag.name](const std::string& text) { Found(name, text); });
  }

  void AddOption(const std::string& flag, const std::string& option, CLI::App* app) {
    app->add_option(option, CLI::callback_t([](const CLI::results_t&) { return true; }))
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->each([this, flag](const std::string& text) { Found(flag, text); });
  }

  void Found(const std::string& flag, const std::string& text) {
    found_.given.emplace_back(flag, Unshielded(text));
  }

  // What no app has taken: unknown flags, commands and words, in the words of the rest of Tandem.
  absl::Status CheckWords(const CLI::App& app) const {
    const std::vector<std::string> rest = app.remaining();
    if (rest.empty()) return absl::OkStatus();
    const auto& [command, path] = commands_.at(&app);
    const std::string word = Unshielded(rest.front());
    if (word.starts_with("-")) {
      const std::string name = word.substr(0, word.find('='));
      const std::size_t letters = std::min(name.find_first_not_of('-'), name.size());
      const std::string nearest = command->flags.Nearest(name.substr(letters));
      return absl::InvalidArgumentError(
          Cat(name, ": unknown flag", nearest.empty() ? "" : Cat("; did you mean --", nearest, "?"),
              " (", path, " --help lists them)"));
    }
    if (command->commands.empty())
      return absl::InvalidArgumentError(Cat("unexpected argument '", word, "'"));
    std::vector<std::string> names;
    for (const Command& sub : command->commands) names.push_back(sub.name);
    const std::string nearest = NearestName(word, names);
    return absl::InvalidArgumentError(
        Cat("unknown command '", word, "'",
            nearest.empty() ? "" : Cat("; did you mean '", nearest, "'?"), " (", path,
            " --help lists them)"));
  }

  CLI::App app_;
  Invocation found_;
  // Where CLI11 leaves the text of a switch; Found() has it by then.
  std::string switch_text_;
  std::map<const CLI::App*, std::pair<Command*, std::string>> commands_;
};

// The file's settings that this command has.
absl::Status ApplyConfigFile(const std::string& path, const std::string& source, FlagList* flags) {
  ClusterSettings settings;
  FlagList known;
  AddClusterFlags(&known, &settings);
  absl::StatusOr<ConfigFile> file = ReadConfigFile(path, &known);
  if (!file.ok()) return Annotate(file.status(), source);
  if (!file->problems.empty())
    return absl::InvalidArgumentError(Cat(source, ": ", file->problems.front()));
  for (const ConfigFile::Entry& entry : file->entries) {
    if (flags->Find(entry.key) != nullptr)
      TANDEM_RETURN_IF_ERROR(flags->Set(entry.key, entry.value, entry.source));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Invocation> ParseArguments(Command* program,
                                          const std::vector<std::string>& arguments) {
  return Parser(program).Parse(arguments);
}

absl::Status ApplySources(const Invocation& invocation) {
  FlagList* flags = &invocation.command->flags;
  std::string config;
  std::string config_source = kConfigVariable;
  if (const char* named = std::getenv(kConfigVariable); named != nullptr) config = named;
  // A list that is given several times is one list.
  std::vector<std::pair<std::string, std::string>> values;
  for (const auto& [name, text] : invocation.given) {
    if (name == "config" && invocation.command->reads_config) {
      config = text;
      config_source = "--config";
      if (text.empty()) return absl::InvalidArgumentError("--config: expected a value, found none");
      continue;
    }
    const Flag* flag = flags->Find(name);
    TANDEM_CHECK(flag != nullptr);
    const bool is_list = flag->kind == FlagKind::kList;
    const auto same = std::find_if(values.begin(), values.end(),
                                   [&, n = name](const auto& value) { return value.first == n; });
    if (same == values.end()) {
      values.emplace_back(name, text);
    } else {
      same->second = is_list ? Cat(same->second, ",", text) : text;
    }
  }
  if (!invocation.only_flags) {
    if (!config.empty() && invocation.command->reads_config)
      TANDEM_RETURN_IF_ERROR(ApplyConfigFile(config, config_source, flags));
    TANDEM_RETURN_IF_ERROR(flags->ReadEnvironment());
  }
  for (const auto& [name, text] : values)
    TANDEM_RETURN_IF_ERROR(flags->Set(name, text, "--" + name));
  return absl::OkStatus();
}

int RunCommandLine(Command* program, const std::vector<std::string>& arguments) {
  const absl::StatusOr<Invocation> invocation = ParseArguments(program, arguments);
  if (!invocation.ok()) {
    PrintError(program->name, invocation.status());
    return 1;
  }
  if (invocation->version) {
    std::printf("%s %s\n", program->name.c_str(), kVersion);
    return 0;
  }
  if (invocation->help || invocation->manual) {
    const std::string page = invocation->help ? HelpText(*invocation->command, invocation->path)
                                              : ManualPage(*invocation->command, invocation->path);
    std::fputs(page.c_str(), stdout);
    return 0;
  }
  if (const absl::Status status = ApplySources(*invocation); !status.ok()) {
    PrintError(program->name, status);
    return 1;
  }
  return invocation->command->run();
}

void PrintError(std::string_view program, const absl::Status& status) {
  const std::string line = Cat(program, ": error: ", status.message(), "\n");
  std::fputs(line.c_str(), stderr);
}

}  // namespace tandem
