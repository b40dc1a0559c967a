// The `tandem` command: starts and stops a local cluster, chats with it, diagnoses.

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "cli/cluster_files.h"
#include "cli/commands.h"
#include "cli/up_options.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/base/version.h"

namespace tandem {
namespace {

constexpr char kUsage[] =
    "tandem serves Gemma 3 on the NPU and the GPU together\n\n"
    "  tandem up --model PATH          start a cluster; Ctrl-C stops it (--detach: leave it)\n"
    "  tandem down                     stop the cluster\n"
    "  tandem status [--json]          processes, plan, device of each stage, edges, speed\n"
    "  tandem chat [--once TEXT]       talk to it\n"
    "  tandem tokenize [--decode]      text on standard input, ids out; and back\n"
    "  tandem trace SECONDS            what every worker does, and how busy it is (--output FILE)\n"
    "  tandem doctor                   what devices, drivers, memory and limits are there\n"
    "  tandem version\n\n"
    "Every command shows its flags with --help, and takes --cluster NAME where a cluster is "
    "meant.\n";

// One command's flags and what it does with them.
struct Command {
  std::string name;
  std::function<void(FlagList*)> add_flags;
  std::function<int()> run;
  // The flag that a single word sets; empty: none.
  std::string word_flag = {};
};

// What all commands share, filled by the flags.
struct CommandLine {
  std::string cluster = "default";
  std::string config;
  bool detach = false;
  bool json = false;
  UpOptions up;
  ChatOptions chat;
  TokenizeOptions tokenize;
  TraceOptions trace;
};

void AddClusterFlag(FlagList* flags, CommandLine* line) {
  flags->Text("cluster", &line->cluster, "name of the local cluster; several run side by side");
}

void AddGatewayAddressFlags(FlagList* flags, GatewayAddress* gateway) {
  flags->Text("grpc", &gateway->grpc, "gateway to talk to instead of the local cluster's");
  flags->Text("api_key_file", &gateway->api_key_file, "file with the API key to show");
}

int WithPaths(const CommandLine& line, const std::function<int(const ClusterPaths&)>& run) {
  const absl::StatusOr<ClusterPaths> paths = PathsOf(line.cluster);
  return paths.ok() ? run(*paths) : Fail(paths.status());
}

int RunUp(CommandLine* line) {
  if (const absl::Status status = FinishOptions(&line->up); !status.ok()) return Fail(status);
  return WithPaths(
      *line, [&](const ClusterPaths& paths) { return CommandUp(line->up, paths, line->detach); });
}

std::vector<Command> Commands(CommandLine* line) {
  const auto cluster_only = [line](FlagList* flags) { AddClusterFlag(flags, line); };
  const auto with = [line](auto command) {
    return [line, command] {
      return WithPaths(*line, [&](const ClusterPaths& paths) { return command(paths); });
    };
  };
  return {
      {"up",
       [line](FlagList* flags) {
         AddUpFlags(flags, &line->up);
         AddClusterFlag(flags, line);
         flags->Text("config", &line->config,
                     "JSON file with the flags above by name; the command line wins");
         flags->Switch("detach", &line->detach,
                       "return once the cluster is ready and leave it running");
       },
       [line] { return RunUp(line); }},
      {"down", cluster_only, with(CommandDown)},
      {"status",
       [line](FlagList* flags) {
         AddClusterFlag(flags, line);
         flags->Switch("json", &line->json, "print JSON");
       },
       with([line](const ClusterPaths& paths) { return CommandStatus(paths, line->json); })},
      {"chat",
       [line](FlagList* flags) {
         AddClusterFlag(flags, line);
         AddGatewayAddressFlags(flags, &line->chat.gateway);
         flags->Text("once", &line->chat.once, "ask this, print the answer and leave");
         flags->Text("system", &line->chat.system, "system text");
         flags->Real("temperature", &line->chat.temperature, -1, 2,
                     "0 takes the most likely token; -1: the server's default");
         flags->Number("max_tokens", &line->chat.max_tokens, 0, 1 << 20,
                       "longest answer; 0: up to the context's end");
       },
       with([line](const ClusterPaths& paths) { return CommandChat(paths, line->chat); })},
      {"tokenize",
       [line](FlagList* flags) {
         AddClusterFlag(flags, line);
         AddGatewayAddressFlags(flags, &line->tokenize.gateway);
         flags->Switch("decode", &line->tokenize.decode, "token ids in, text out");
         flags->Switch("bos", &line->tokenize.bos, "put the beginning-of-sequence token first");
       },
       with([line](const ClusterPaths& paths) { return CommandTokenize(paths, line->tokenize); })},
      {"trace",
       [line](FlagList* flags) {
         AddClusterFlag(flags, line);
         AddGatewayAddressFlags(flags, &line->trace.gateway);
         flags->Number("seconds", &line->trace.seconds, 1, 600,
                       "how long to record; may stand as a word of its own");
         flags->Text("output", &line->trace.output, "file for Perfetto or Chrome");
       },
       with([line](const ClusterPaths& paths) { return CommandTrace(paths, line->trace); }),
       "seconds"},
      {"doctor", [](FlagList*) {}, CommandDoctor},
  };
}

// The configuration file first, then the command line again, which wins.
absl::Status ParseArguments(const Command& command, const std::vector<std::string>& arguments,
                            CommandLine* line, bool* help, std::string* help_text) {
  FlagList flags;
  command.add_flags(&flags);
  flags.Switch("help", help, "print this and end");
  *help_text = flags.Help();
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> words, flags.Parse(arguments));
  const std::size_t known = command.word_flag.empty() ? 0 : 1;
  if (words.size() > known)
    return absl::InvalidArgumentError(Cat("unexpected argument '", words[known], "'"));
  if (!words.empty()) TANDEM_RETURN_IF_ERROR(flags.Configure(command.word_flag, words.front()));
  if (line->config.empty() || *help) return absl::OkStatus();
  FlagList settings;
  AddUpFlags(&settings, &line->up);
  TANDEM_RETURN_IF_ERROR(ApplyConfigFile(line->config, &settings));
  return flags.Parse(arguments).status();
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    std::fprintf(stderr, "tandem: error: expected a command\n%s", kUsage);
    return 1;
  }
  const std::string& name = arguments.front();
  if (name == "--help" || name == "help") {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (name == "version" || name == "--version") {
    std::printf("tandem %s\n", kVersion);
    return 0;
  }
  CommandLine line;
  for (const Command& command : Commands(&line)) {
    if (command.name != name) continue;
    bool help = false;
    std::string help_text;
    const absl::Status parsed =
        ParseArguments(command, {arguments.begin() + 1, arguments.end()}, &line, &help, &help_text);
    if (!parsed.ok()) return Fail(parsed);
    if (!help) return command.run();
    std::printf("tandem %s [flags]\n\n%s", name.c_str(), help_text.c_str());
    return 0;
  }
  if (name.starts_with("--")) {
    std::fprintf(stderr, "tandem: error: expected a command before the flags, found '%s'\n%s",
                 name.c_str(), kUsage);
  } else {
    std::fprintf(stderr, "tandem: error: unknown command '%s'\n%s", name.c_str(), kUsage);
  }
  return 1;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main({argv + 1, argv + argc}); }
