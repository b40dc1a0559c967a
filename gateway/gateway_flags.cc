#include "gateway/gateway_flags.h"

#include <cstdint>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/version.h"
#include "lib/text/cat.h"

namespace {

// Repeatable, and with commas.
struct WorkerList {
  std::vector<std::string> entries;
};

bool AbslParseFlag(absl::string_view text, WorkerList* list, std::string*) {
  for (const absl::string_view entry : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    list->entries.emplace_back(entry);
  }
  return true;
}

std::string AbslUnparseFlag(const WorkerList& list) {
  std::string text;
  for (const std::string& entry : list.entries) text += (text.empty() ? "" : ",") + entry;
  return text;
}

}  // namespace

ABSL_FLAG(std::string, http, "127.0.0.1:8080",
          "where the HTTP API listens: host:port or unix:/path");
ABSL_FLAG(std::string, grpc, "127.0.0.1:8081",
          "where the gRPC API listens: host:port or unix:/path");
ABSL_FLAG(std::string, loader, "", "gRPC address of the loader");
ABSL_FLAG(WorkerList, worker, {}, "name=role=address of a worker; repeatable, or with commas");
ABSL_FLAG(std::string, plan, "gpu", "gpu, npu, split, layers or layers:N,M");
ABSL_FLAG(std::string, edge_kinds, "",
          "allowed edge kinds in order of preference, with commas; empty: "
          "dma-buf,host-pointer,inline");
ABSL_FLAG(std::string, activations, "float32", "float32 or int8");
ABSL_FLAG(std::string, kv_type, "float32", "keys and values in the cache: float32 or float16");
ABSL_FLAG(std::int32_t, context, 0, "tokens of prompt and answer together; 0: the default");
ABSL_FLAG(std::int32_t, max_tokens_per_step, 0, "tokens of one step; 0: the default");
ABSL_FLAG(std::int32_t, max_sequences, 0, "requests that run at a time; 0: the default");
ABSL_FLAG(std::int32_t, steps_in_flight, 2,
          "steps that are sent before the first one's results are back, 1 to 4");
ABSL_FLAG(std::int32_t, micro_batches, 0,
          "most micro-batches of a step, 1 to 4; 0: two where workers alternate (split), else one");
ABSL_FLAG(std::uint64_t, kv_memory, 0, "bytes of the KV cache over all layers; 0: the default");
ABSL_FLAG(std::int32_t, queue, 64, "requests that may wait; further ones are answered 429");
ABSL_FLAG(std::string, api_key_file, "", "file with API keys, one a line");
ABSL_FLAG(std::vector<std::string>, allowed_hosts, {},
          "names under which HTTP clients may ask, besides addresses, localhost and the name in "
          "--http; with commas; *: any");
ABSL_FLAG(std::string, model_id, "", "what the API calls the model; empty: the model's own name");
ABSL_FLAG(absl::Duration, start_timeout, absl::Minutes(5), "for the loader to answer at all");
ABSL_FLAG(absl::Duration, recovery_timeout, absl::Seconds(60),
          "how long running requests wait for a lost worker");
ABSL_FLAG(absl::Duration, shutdown_grace, absl::Seconds(3),
          "how long running answers may go on after SIGTERM");
ABSL_FLAG(std::string, ready_file, "",
          "written once the ports are open: JSON with the addresses {\"http\", \"grpc\"}");
ABSL_FLAG(std::string, log_level, "info", "trace, debug, info, warn or error");

namespace tandem {
namespace {

absl::Status Bad(std::string_view flag, std::string_view expected, std::string_view found) {
  return absl::InvalidArgumentError(Cat(flag, ": expected ", expected, ", found ", found));
}

absl::Status CheckRange(std::string_view flag, std::int64_t value, std::int64_t lo) {
  if (value >= lo) return absl::OkStatus();
  return Bad(flag, Cat("a number from ", lo), Cat(value));
}

absl::Status ReadWorkers(const WorkerList& list, std::vector<ClusterWorker>& workers) {
  for (const std::string& entry : list.entries) {
    TANDEM_ASSIGN_OR_RETURN(ClusterWorker worker, ParseWorker(entry));
    for (const ClusterWorker& other : workers) {
      if (other.name == worker.name) {
        return absl::InvalidArgumentError(
            Cat("--worker: two workers are called '", worker.name, "'"));
      }
    }
    workers.push_back(std::move(worker));
  }
  if (workers.empty()) {
    return absl::InvalidArgumentError("--worker: expected at least one name=role=address");
  }
  return absl::OkStatus();
}

absl::Status ReadEdgeKinds(const std::string& text, std::vector<std::string>& kinds) {
  if (text.empty()) return absl::OkStatus();
  kinds.clear();
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    if (part != "dma-buf" && part != "host-pointer" && part != "inline") {
      return Bad("--edge_kinds", "dma-buf, host-pointer or inline", std::string(part));
    }
    kinds.emplace_back(part);
  }
  return absl::OkStatus();
}

absl::Status ReadCluster(ClusterOptions& cluster) {
  cluster.loader_address = absl::GetFlag(FLAGS_loader);
  if (cluster.loader_address.empty()) {
    return absl::InvalidArgumentError("--loader: expected the loader's gRPC address, found none");
  }
  TANDEM_RETURN_IF_ERROR(ReadWorkers(absl::GetFlag(FLAGS_worker), cluster.workers));
  cluster.plan = absl::GetFlag(FLAGS_plan);
  TANDEM_RETURN_IF_ERROR(ReadEdgeKinds(absl::GetFlag(FLAGS_edge_kinds), cluster.edge_kinds));
  cluster.activations = absl::GetFlag(FLAGS_activations);
  cluster.kv_type = absl::GetFlag(FLAGS_kv_type);
  cluster.context_tokens = absl::GetFlag(FLAGS_context);
  TANDEM_RETURN_IF_ERROR(CheckRange("--context", cluster.context_tokens, 0));
  const std::int32_t step_tokens = absl::GetFlag(FLAGS_max_tokens_per_step);
  TANDEM_RETURN_IF_ERROR(CheckRange("--max_tokens_per_step", step_tokens, 0));
  if (step_tokens > 0) cluster.limits.max_tokens = step_tokens;
  const std::int32_t sequences = absl::GetFlag(FLAGS_max_sequences);
  TANDEM_RETURN_IF_ERROR(CheckRange("--max_sequences", sequences, 0));
  if (sequences > 0) cluster.limits.max_sequences = sequences;
  cluster.steps_in_flight = absl::GetFlag(FLAGS_steps_in_flight);
  cluster.micro_batches = absl::GetFlag(FLAGS_micro_batches);
  cluster.kv_memory_bytes = absl::GetFlag(FLAGS_kv_memory);
  cluster.max_waiting = absl::GetFlag(FLAGS_queue);
  TANDEM_RETURN_IF_ERROR(CheckRange("--queue", cluster.max_waiting, 1));
  cluster.start_timeout = absl::GetFlag(FLAGS_start_timeout);
  cluster.recovery_timeout = absl::GetFlag(FLAGS_recovery_timeout);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ClusterWorker> ParseWorker(std::string_view text) {
  const std::size_t first = text.find('=');
  const std::size_t second = first == std::string_view::npos ? first : text.find('=', first + 1);
  if (second == std::string_view::npos || first == 0 || second + 1 == text.size()) {
    return Bad("--worker", "name=role=address", Cat("'", text, "'"));
  }
  ClusterWorker worker{.name = std::string(text.substr(0, first)),
                       .role = std::string(text.substr(first + 1, second - first - 1)),
                       .address = std::string(text.substr(second + 1))};
  if (worker.role != "gpu" && worker.role != "npu") {
    return Bad("--worker", "role gpu or npu", Cat("'", worker.role, "' in '", text, "'"));
  }
  return worker;
}

absl::StatusOr<GatewayFlags> ParseGatewayFlags(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "The public ports of a Tandem cluster: the OpenAI API over HTTP, and gRPC.");
  absl::FlagsUsageConfig config;
  const auto ours = [](absl::string_view file) {
    return file.find("gateway_flags.cc") != absl::string_view::npos;
  };
  config.contains_helpshort_flags = ours;
  config.contains_help_flags = ours;
  config.version_string = [] { return Cat("tandem-gateway ", kVersion, "\n"); };
  absl::SetFlagsUsageConfig(config);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    return absl::InvalidArgumentError(Cat("unexpected argument '", rest[1], "'"));
  }
  GatewayFlags flags;
  flags.http = absl::GetFlag(FLAGS_http);
  flags.grpc = absl::GetFlag(FLAGS_grpc);
  flags.api_key_file = absl::GetFlag(FLAGS_api_key_file);
  flags.allowed_hosts = absl::GetFlag(FLAGS_allowed_hosts);
  flags.model_id = absl::GetFlag(FLAGS_model_id);
  flags.ready_file = absl::GetFlag(FLAGS_ready_file);
  flags.log_level = absl::GetFlag(FLAGS_log_level);
  flags.shutdown_grace = absl::GetFlag(FLAGS_shutdown_grace);
  TANDEM_RETURN_IF_ERROR(ReadCluster(flags.cluster));
  return flags;
}

}  // namespace tandem
