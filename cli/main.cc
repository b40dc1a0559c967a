// The `tandem` command: starts and stops a local cluster, chats with it, diagnoses.

#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cli/cluster_files.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/config_command.h"
#include "cli/up_options.h"
#include "lib/base/version.h"
#include "lib/service/command_line.h"

namespace tandem {
namespace {

// What the flags of all commands fill.
struct CommandLine {
  std::string cluster = "default";
  bool detach = false;
  bool json = false;
  bool plan_report = false;
  UpOptions up;
  GatewayAddress status;
  std::string plan;
  ChatOptions chat;
  TokenizeOptions tokenize;
  TraceOptions trace;
  KeyOptions key;
  TuneOptions tune;
  std::string checked_file;
  std::string shell;
  std::string health_address;
  std::string folder;
};

constexpr char kThisCommand[] = "This command";

void AddClusterFlag(FlagList* flags, CommandLine* line) {
  flags->Section("Which cluster", FlagScope::kProcess);
  flags->Text("cluster", &line->cluster, "name of the local cluster; several run side by side");
}

void AddGatewayAddressFlags(FlagList* flags, GatewayAddress* gateway) {
  flags->Text("grpc", &gateway->grpc, "gateway to talk to instead of the local cluster's");
  flags->Path("api_key_file", &gateway->api_key_file, "file with the API key to show to --grpc");
  flags->Path("tls_ca", &gateway->tls_ca,
              "PEM file with the authority of the certificate of --grpc; without it: no TLS");
}

int WithPaths(const CommandLine& line, const std::function<int(const ClusterPaths&)>& run) {
  const absl::StatusOr<ClusterPaths> paths = PathsOf(line.cluster);
  return paths.ok() ? run(*paths) : Fail(paths.status());
}

Command Up(CommandLine* line) {
  Command command{
      "up", "starts a cluster on this machine and keeps it running",
      "Starts loader, workers and gateway, shows how the model loads, and then a live status line. "
      "A process that dies is started again, and running requests go on. Ctrl-C or SIGTERM stops "
      "everything.\n\n"
      "Devices are never chosen silently: without a GPU name what shall run instead."};
  command.examples = {
      {"tandem up --model ~/models/gemma-3-27b-it-q4_0.gguf", "on the GPU"},
      {"tandem up --model PATH --npu xrt --plan split --detach",
       "attention on the NPU, feed-forward on the GPU; returns once requests are answered"},
      {"tandem up --model PATH --gpu none --npu cpu --context 4096 --kv_memory 2GiB --queue 16",
       "on the CPU, with limits of one's own"},
      {"tandem up --config tandem.yaml --http 127.0.0.1:9000",
       "settings from a file, but another port"}};
  command.reads_config = true;
  AddClusterFlags(&command.flags, &line->up);
  AddClusterFlag(&command.flags, line);
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Switch("detach", &line->detach,
                       "return once the cluster is ready and leave it running");
  command.run = [line] {
    if (const absl::Status status = FinishOptions(&line->up); !status.ok()) return Fail(status);
    return WithPaths(
        *line, [&](const ClusterPaths& paths) { return CommandUp(line->up, paths, line->detach); });
  };
  return command;
}

Command Down(CommandLine* line) {
  Command command{"down", "stops the local cluster"};
  command.examples = {{"tandem down", "answers that are running may end within --shutdown_grace"}};
  AddClusterFlag(&command.flags, line);
  command.run = [line] { return WithPaths(*line, CommandDown); };
  return command;
}

Command StatusCommand(CommandLine* line) {
  Command command{"status", "shows processes, plan, the device of each stage, edges and speed"};
  command.examples = {{"tandem status --json", "for programs"},
                      {"tandem status --plan", "which plans were tried, and why one serves"},
                      {"tandem status --grpc unix:/run/tandem/grpc.sock",
                       "of a cluster that systemd or Docker runs"}};
  AddClusterFlag(&command.flags, line);
  AddGatewayAddressFlags(&command.flags, &line->status);
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Switch("json", &line->json, "print JSON");
  command.flags.Switch("plan", &line->plan_report,
                       "print what --plan auto has tried and chosen, and why");
  command.run = [line] {
    return WithPaths(*line, [line](const ClusterPaths& paths) {
      if (line->plan_report) return CommandPlanReport(paths, line->status, line->json);
      return CommandStatus(paths, line->status, line->json);
    });
  };
  return command;
}

Command Plan(CommandLine* line) {
  Command command{
      "plan", "changes which device computes what, while requests run",
      "Running requests pause and go on under the new plan, with the same text. A plan whose "
      "devices do not answer, or that does not come to serve, leaves the plan as it was. The "
      "choice "
      "lasts until the gateway ends; --plan of `tandem up` says with which one it begins. A key "
      "for "
      "--grpc needs the scope admin."};
  command.examples = {
      {"tandem plan npu", "everything on the NPU"},
      {"tandem plan layers:20,14", "20 layers on the first worker, 14 on the next"}};
  command.word = "name";
  command.word_choices = {"gpu", "npu", "split", "hybrid", "layers"};
  AddClusterFlag(&command.flags, line);
  AddGatewayAddressFlags(&command.flags, &line->status);
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Text(
      "name", &line->plan,
      "gpu, npu, split, hybrid, layers or layers:N,M,...; may stand as a word of its own");
  command.run = [line] {
    return WithPaths(*line, [line](const ClusterPaths& paths) {
      return CommandPlan(paths, line->status, line->plan);
    });
  };
  return command;
}

Command Chat(CommandLine* line) {
  Command command{
      "chat", "talks with the model",
      "Reads questions from standard input and streams the answers. Ctrl-C stops an answer; at the "
      "prompt it leaves, as /quit does. /reset forgets the conversation."};
  command.examples = {{"tandem chat --system 'You answer in one sentence.'", "a conversation"},
                      {"tandem chat --once 'What is 12 + 30?' --temperature 0", "one question"}};
  AddClusterFlag(&command.flags, line);
  AddGatewayAddressFlags(&command.flags, &line->chat.gateway);
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Text("once", &line->chat.once, "ask this, print the answer and leave");
  command.flags.Text("system", &line->chat.system, "system text");
  command.flags.Real("temperature", &line->chat.temperature, -1, 2,
                     "0 takes the most likely token; -1: the server's default");
  command.flags.Number("max_tokens", &line->chat.max_tokens, 0, 1 << 20,
                       "longest answer; 0: up to the context's end");
  command.run = [line] {
    return WithPaths(*line,
                     [line](const ClusterPaths& paths) { return CommandChat(paths, line->chat); });
  };
  return command;
}

Command Tokenize(CommandLine* line) {
  Command command{"tokenize", "turns text on standard input into token ids, and back"};
  command.examples = {{"echo 'Hello' | tandem tokenize", "ids"},
                      {"echo '2 9259' | tandem tokenize --decode", "text"}};
  AddClusterFlag(&command.flags, line);
  AddGatewayAddressFlags(&command.flags, &line->tokenize.gateway);
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Switch("decode", &line->tokenize.decode, "token ids in, text out");
  command.flags.Switch("bos", &line->tokenize.bos, "put the beginning-of-sequence token first");
  command.run = [line] {
    return WithPaths(*line, [line](const ClusterPaths& paths) {
      return CommandTokenize(paths, line->tokenize);
    });
  };
  return command;
}

Command Tune(CommandLine* line) {
  Command command{"tune", "measures how the GPU's kernels are best shaped, and keeps that",
                  "Later starts with the same device and driver read what was found. Takes some "
                  "seconds, and 1 GiB of the GPU's memory at most; no model is needed."};
  command.examples = {{"tandem tune", "for a model of 27B in int4"},
                      {"tandem tune --gpu radeon --shape 4b --weights int8", "for another"}};
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Text("gpu", &line->tune.gpu, "auto, or a part of a device's name or its number");
  command.flags.Text("shape", &line->tune.shape, "of Gemma 3: 1b, 4b, 12b or 27b");
  command.flags.Text("weights", &line->tune.weights, "int4 or int8");
  command.run = [line] { return CommandTune(line->tune); };
  return command;
}

Command Trace(CommandLine* line) {
  Command command{"trace", "records what every worker does, and how busy it is"};
  command.examples = {
      {"tandem trace 5", "a summary of five seconds"},
      {"tandem trace 5 --output trace.json", "also a file that https://ui.perfetto.dev opens"}};
  command.word = "seconds";
  AddClusterFlag(&command.flags, line);
  AddGatewayAddressFlags(&command.flags, &line->trace.gateway);
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Number("seconds", &line->trace.seconds, 1, 600,
                       "how long to record; may stand as a word of its own");
  command.flags.Path("output", &line->trace.output, "file for Perfetto or Chrome");
  command.run = [line] {
    return WithPaths(
        *line, [line](const ClusterPaths& paths) { return CommandTrace(paths, line->trace); });
  };
  return command;
}

Command Health(CommandLine* line) {
  Command command{"health", "asks a process of a cluster whether it is healthy",
                  "Asks a loader, a worker or a gateway with gRPC's health protocol. A worker is "
                  "healthy when a small dispatch on its device gave the right result; a gateway, "
                  "when a request would be served now. For health checks of containers."};
  command.examples = {{"tandem health unix:/run/tandem/gpu0.sock", "exit code 0: it is"}};
  command.word = "address";
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Text("address", &line->health_address,
                     "where the process listens; may stand as a word of its own");
  command.run = [line] { return CommandHealth(line->health_address); };
  return command;
}

Command Config(CommandLine* line) {
  Command check{"check", "checks a configuration file and lists everything that is wrong in it"};
  check.examples = {{"tandem config check tandem.yaml", "exit code 1 when something is wrong"}};
  check.word = "file";
  check.flags.Section(kThisCommand, FlagScope::kCommandLine);
  check.flags.Path("file", &line->checked_file, "the file; may stand as a word of its own");
  check.run = [line] { return CommandConfigCheck(line->checked_file); };

  Command show{"show", "prints every setting with its value, and where the value comes from"};
  show.examples = {
      {"tandem config show --config tandem.yaml", "as a configuration file"},
      {"tandem config show --changed --json", "only what is not the default, as JSON"}};
  show.reads_config = true;
  AddClusterFlags(&show.flags, &line->up);

  Command schema{"schema", "prints the JSON schema of configuration files"};
  schema.run = CommandConfigSchema;

  Command command{"config", "checks and shows the settings of a cluster",
                  "A configuration file is YAML with the names of the flags of `tandem up`. Every "
                  "process of a cluster reads the same file."};
  command.commands = {std::move(check), std::move(show), std::move(schema)};
  return command;
}

Command Key(CommandLine* line) {
  const auto make = [line](const char* name, const char* summary, bool one) {
    Command command{name, summary};
    command.flags.Section(kThisCommand, FlagScope::kCommandLine);
    command.flags.Path("file", &line->key.file, "the file that the gateway's --api_key_file names");
    if (one) {
      command.word = "name";
      command.flags.Text("name", &line->key.name,
                         "what the key is called; may stand as a word of its own");
    }
    return command;
  };
  Command add = make("add", "makes a key and prints it, this once: the file keeps its hash", true);
  add.examples = {{"tandem key add alice --file keys --requests_per_minute 60", "asks the model"},
                  {"tandem key add prometheus --file keys --scopes metrics", "reads metrics"}};
  KeyOptions& key = line->key;
  add.flags.Texts("scopes", &key.scopes,
                  "what it may do: inference, metrics, admin (everything); with commas");
  add.flags.Number("requests", &key.requests, 0, 1 << 20, "that may run at a time; 0: no limit");
  add.flags.Number("requests_per_minute", &key.requests_per_minute, 0, 1 << 30, "0: no limit");
  add.flags.Number("tokens_per_minute", &key.tokens_per_minute, 0, 1 << 30,
                   "of prompts and answers; 0: no limit");
  add.run = [line] { return CommandKeyAdd(line->key); };
  Command list = make("list", "shows names, scopes and limits of the keys in a file", false);
  list.run = [line] { return CommandKeyList(line->key); };
  Command remove = make("remove", "takes a key out of a file", true);
  remove.run = [line] { return CommandKeyRemove(line->key); };
  Command command{"key", "makes and removes the API keys of a gateway",
                  "A gateway that runs reads its key file again when it changes."};
  command.commands = {std::move(add), std::move(list), std::move(remove)};
  return command;
}

Command Completion(CommandLine* line) {
  Command command{"completion", "prints the completion script of a shell"};
  command.examples = {
      {"tandem completion bash > ~/.local/share/bash-completion/completions/tandem", "bash"},
      {"tandem completion zsh > \"${fpath[1]}/_tandem\"", "zsh"},
      {"tandem completion fish > ~/.config/fish/completions/tandem.fish", "fish"}};
  command.word = "shell";
  command.word_choices = {"bash", "zsh", "fish"};
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Text("shell", &line->shell, "bash, zsh or fish; may stand as a word of its own");
  return command;
}

Command Manuals(CommandLine* line) {
  Command command{"manuals", "writes the manual pages of all commands into a folder"};
  command.examples = {{"tandem manuals ~/.local/share/man/man1", "then: man tandem-up"}};
  command.word = "folder";
  command.flags.Section(kThisCommand, FlagScope::kCommandLine);
  command.flags.Path("folder", &line->folder, "an existing folder; may stand as a word of its own");
  return command;
}

Command Program(CommandLine* line) {
  Command program{"tandem", "serves Gemma 3 on the NPU and the GPU together"};
  program.description =
      "Tandem is a small cluster of processes on one machine: a gateway that speaks the OpenAI API "
      "and gRPC, workers that own the devices, and a loader that holds the weights in shared "
      "memory. This command starts, watches and stops it.";
  program.examples = {{"tandem up --model PATH", "start a cluster; Ctrl-C stops it"},
                      {"tandem chat", "talk to it, in another terminal"},
                      {"tandem doctor", "what devices, drivers, memory and limits are there"}};
  program.commands = {Up(line),       Down(line),  StatusCommand(line), Chat(line),
                      Tokenize(line), Trace(line), Config(line),        Completion(line)};
  program.commands.push_back(Plan(line));
  program.commands.push_back(Health(line));
  program.commands.push_back(Tune(line));
  program.commands.push_back(Key(line));
  program.commands.push_back(Manuals(line));
  Command doctor{"doctor", "says what devices, drivers, memory and limits are there"};
  doctor.run = CommandDoctor;
  program.commands.push_back(std::move(doctor));
  Command version{"version", "prints the version"};
  version.run = [] { return std::printf("tandem %s\n", kVersion) < 0 ? 1 : 0; };
  program.commands.push_back(std::move(version));
  return program;
}

Command* Find(Command* command, const std::string& name) {
  for (Command& sub : command->commands) {
    if (sub.name == name) return &sub;
  }
  return nullptr;
}

int Main(const std::vector<std::string>& arguments) {
  CommandLine line;
  Command program = Program(&line);
  // These look at the tree of commands itself.
  bool changed = false;
  Command* show = Find(Find(&program, "config"), "show");
  show->flags.Section(kThisCommand, FlagScope::kCommandLine);
  show->flags.Switch("json", &line.json, "print JSON");
  show->flags.Switch("changed", &changed, "leave out what is the default");
  show->run = [&] { return CommandConfigShow(show->flags, line.json, changed); };
  Find(&program, "completion")->run = [&] { return CommandCompletion(program, line.shell); };
  Find(&program, "manuals")->run = [&] { return CommandManuals(program, line.folder); };
  return RunCommandLine(&program, arguments);
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main({argv + 1, argv + argc}); }
