// The `tandem` command: starts and stops a local cluster, chats with it, diagnoses.

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/str_cat.h"
#include "cli/cluster_options.h"
#include "cli/commands.h"
#include "cli/paths.h"
#include "lib/base/status_macros.h"
#include "lib/base/version.h"

ABSL_FLAG(std::string, cluster, "default",
          "name of the local cluster; several can run side by side");
ABSL_FLAG(std::string, config, "",
          "up: JSON file with the flags below by name; flags on the command line win");
ABSL_FLAG(std::string, model, "",
          "up: GGUF file, safetensors file or folder, or Hugging Face cache folder");
ABSL_FLAG(std::string, quant, "as-is", "up: weights in memory: bf16, int8, int4 or as-is");
ABSL_FLAG(std::string, plan, "",
          "up: gpu, npu, split or layers[:COUNT,COUNT...]; default: split with both devices, else "
          "the one there is");
ABSL_FLAG(std::string, npu, "none",
          "up: what the npu-worker runs on: xrt (the NPU), cpu (the CPU device, by name only) or "
          "none; several with commas");
ABSL_FLAG(std::string, gpu, "auto",
          "up: Vulkan device: auto, part of its name, or none; several with commas");
ABSL_FLAG(std::string, http, "127.0.0.1:8080",
          "up: address of the OpenAI API (port 0: any free one)");
ABSL_FLAG(std::string, grpc, "127.0.0.1:8081",
          "up: address of the gRPC API; chat, tokenize: gateway to talk to instead of the local "
          "cluster's");
ABSL_FLAG(std::string, activations, "float32",
          "up: activations in products with int8 and int4 weights on a device that can choose: "
          "float32 or int8");
ABSL_FLAG(std::string, kv_type, "",
          "up: keys and values in the cache: float32 or float16; default: float32");
ABSL_FLAG(std::string, edge_kinds, "",
          "up: allowed hand-over kinds in order: dma-buf, host-pointer, inline");
ABSL_FLAG(
    std::string, api_key_file, "",
    "up: file whose first line is the API key that clients must send; chat, tokenize: the same");
ABSL_FLAG(std::string, gpu_weights, "zero-copy",
          "up: how a GPU with unified memory takes weights: zero-copy, or upload where its driver "
          "refuses that");
ABSL_FLAG(std::string, model_id, "", "up: what the APIs call the model; default: its own name");
ABSL_FLAG(std::int32_t, context, 0,
          "up: longest context in tokens; 0: the model's, as far as memory reaches");
ABSL_FLAG(std::int32_t, max_sequences, 0,
          "up: sequences that run at a time; 0: the gateway's default");
ABSL_FLAG(std::int32_t, threads, 0, "up: threads of a cpu device; 0: all cores");
ABSL_FLAG(std::string, log_level, "info", "up: trace, debug, info, warn or error");
ABSL_FLAG(bool, detach, false, "up: return once the cluster is ready and leave it running");
ABSL_FLAG(bool, json, false, "status: print JSON");
ABSL_FLAG(std::string, once, "", "chat: ask this, print the answer and leave");
ABSL_FLAG(std::string, system, "", "chat: system text");
ABSL_FLAG(double, temperature, -1, "chat: 0 takes the most likely token; default: the server's");
ABSL_FLAG(std::int32_t, max_tokens, 0, "chat: longest answer; 0: up to the context's end");
ABSL_FLAG(bool, decode, false, "tokenize: token ids in, text out");
ABSL_FLAG(bool, bos, false, "tokenize: put the beginning-of-sequence token first");

namespace tandem {
namespace {

constexpr char kUsage[] =
    "serves Gemma 3 on the NPU and the GPU together\n\n"
    "  tandem up --model PATH [--quant Q] [--plan P] [--npu cpu|xrt|none] [--gpu auto|NAME|none] "
    "[--http ADDR] [--grpc ADDR] [--config FILE] [--detach]\n"
    "  tandem down                     stop the cluster\n"
    "  tandem status [--json]          processes, plan, device of each stage, edges, speed\n"
    "  tandem chat [--once TEXT]       talk to it\n"
    "  tandem tokenize [--decode]      text on standard input, ids out; and back\n"
    "  tandem doctor                   what devices, drivers, memory and limits are there\n"
    "  tandem version\n\n"
    "Every command takes --cluster NAME. `tandem --help` shows all flags.\n";

bool GivenOnCommandLine(const std::string& flag, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    for (const char* dashes : {"-", "--"}) {
      if (argument == dashes + flag || argument.rfind(dashes + flag + "=", 0) == 0) return true;
    }
  }
  return false;
}

absl::StatusOr<ClusterOptions> OptionsFromFlags(int argc, char** argv) {
  ClusterOptions options;
  if (const std::string file = absl::GetFlag(FLAGS_config); !file.empty()) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return absl::NotFoundError(absl::StrCat("--config: '", file, "' cannot be read"));
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    TANDEM_RETURN_IF_ERROR(ApplyConfigJson(text, file, &options));
  }
  const auto take = [&](const char* name, const auto& flag, auto* field) {
    if (GivenOnCommandLine(name, argc, argv)) *field = absl::GetFlag(flag);
  };
  take("model", FLAGS_model, &options.model);
  take("quant", FLAGS_quant, &options.quant);
  take("plan", FLAGS_plan, &options.plan);
  take("npu", FLAGS_npu, &options.npu);
  take("gpu", FLAGS_gpu, &options.gpu);
  take("http", FLAGS_http, &options.http);
  take("grpc", FLAGS_grpc, &options.grpc);
  take("activations", FLAGS_activations, &options.activations);
  take("kv_type", FLAGS_kv_type, &options.kv_type);
  take("edge_kinds", FLAGS_edge_kinds, &options.edge_kinds);
  take("api_key_file", FLAGS_api_key_file, &options.api_key_file);
  take("gpu_weights", FLAGS_gpu_weights, &options.gpu_weights);
  take("model_id", FLAGS_model_id, &options.model_id);
  take("context", FLAGS_context, &options.context);
  take("max_sequences", FLAGS_max_sequences, &options.max_sequences);
  take("threads", FLAGS_threads, &options.threads);
  take("log_level", FLAGS_log_level, &options.log_level);
  TANDEM_RETURN_IF_ERROR(FinishOptions(&options));
  return options;
}

ChatOptions ChatFromFlags(int argc, char** argv) {
  ChatOptions options;
  options.once = absl::GetFlag(FLAGS_once);
  options.system = absl::GetFlag(FLAGS_system);
  options.temperature = absl::GetFlag(FLAGS_temperature);
  options.max_tokens = absl::GetFlag(FLAGS_max_tokens);
  if (GivenOnCommandLine("grpc", argc, argv)) options.grpc = absl::GetFlag(FLAGS_grpc);
  options.api_key_file = absl::GetFlag(FLAGS_api_key_file);
  return options;
}

int Run(const std::string& command, int argc, char** argv) {
  if (command == "version") {
    std::printf("tandem %s\n", kVersion);
    return 0;
  }
  if (command == "doctor") return CommandDoctor();
  const absl::StatusOr<ClusterPaths> paths = PathsOf(absl::GetFlag(FLAGS_cluster));
  if (!paths.ok()) return Fail(paths.status());
  if (command == "up") {
    const absl::StatusOr<ClusterOptions> options = OptionsFromFlags(argc, argv);
    if (!options.ok()) return Fail(options.status());
    return CommandUp(*options, *paths, absl::GetFlag(FLAGS_detach));
  }
  if (command == "down") return CommandDown(*paths);
  if (command == "status") return CommandStatus(*paths, absl::GetFlag(FLAGS_json));
  const ChatOptions chat = ChatFromFlags(argc, argv);
  if (command == "chat") return CommandChat(*paths, chat);
  if (command == "tokenize") {
    return CommandTokenize(*paths, absl::GetFlag(FLAGS_decode), absl::GetFlag(FLAGS_bos), chat.grpc,
                           chat.api_key_file);
  }
  std::fprintf(stderr, "tandem: error: unknown command '%s'\n%s", command.c_str(), kUsage);
  return 1;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(tandem::kUsage);
  absl::FlagsUsageConfig config;
  config.version_string = [] { return absl::StrCat("tandem ", tandem::kVersion, "\n"); };
  config.contains_helpshort_flags = [](absl::string_view file) {
    return file.find("cli/main.cc") != absl::string_view::npos;
  };
  config.contains_help_flags = config.contains_helpshort_flags;
  absl::SetFlagsUsageConfig(config);
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  if (words.size() != 2) {
    std::fprintf(stderr, "%s%s",
                 words.size() > 2
                     ? absl::StrCat("tandem: error: unexpected argument '", words[2], "'\n").c_str()
                     : "tandem: error: expected a command\n",
                 tandem::kUsage);
    return 1;
  }
  return tandem::Run(words[1], argc, argv);
}
