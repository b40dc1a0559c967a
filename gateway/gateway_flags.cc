#include "gateway/gateway_flags.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_split.h"
#include "lib/base/kept_file.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/plan.h"
#include "lib/service/cluster_layout.h"

namespace tandem {
namespace {

// "a=gpu=x,b=npu=y"
absl::Status SetWorkers(std::string_view text, std::vector<ClusterWorker>* workers) {
  workers->clear();
  for (const absl::string_view entry : absl::StrSplit(AbslView(text), ',')) {
    TANDEM_ASSIGN_OR_RETURN(ClusterWorker worker,
                            ParseWorker(std::string_view(entry.data(), entry.size())));
    for (const ClusterWorker& other : *workers) {
      if (other.name == worker.name) {
        return absl::InvalidArgumentError(
            Cat("expected different names, found '", worker.name, "' twice"));
      }
    }
    workers->push_back(std::move(worker));
  }
  return absl::OkStatus();
}

absl::Status SetLimits(const GatewaySettings& settings, StepLimits* limits) {
  if (settings.max_sequences > 0) limits->max_sequences = settings.max_sequences;
  // Every running request decodes in every step.
  limits->max_logit_rows = std::max(limits->max_logit_rows, limits->max_sequences);
  limits->max_tokens = std::max(limits->max_tokens, limits->max_sequences);
  if (settings.max_tokens_per_step == 0) return absl::OkStatus();
  if (settings.max_tokens_per_step < limits->max_sequences) {
    return absl::InvalidArgumentError(Cat("--max_tokens_per_step: expected at least ",
                                          limits->max_sequences, " (--max_sequences), found ",
                                          settings.max_tokens_per_step));
  }
  limits->max_tokens = settings.max_tokens_per_step;
  return absl::OkStatus();
}

}  // namespace

void AddFlags(FlagList* list, GatewayFlags* flags) {
  AddGatewayFlags(list, &flags->settings);
  AddDeviceFlags(list, &flags->devices);
  AddClusterTlsFlags(list, &flags->tls);
  AddSandboxFlags(list, &flags->sandbox);
  AddLogFlags(list, &flags->log);
  list->Section("This process", FlagScope::kProcess);
  list->Path("run_folder", &flags->run_folder,
             "where the cluster's processes find each other, when --loader and --worker are not "
             "given: their sockets have the names of the workers that --npu and --gpu ask for");
  list->Text("loader", &flags->loader, "gRPC address of the loader");
  list->Custom(
      "worker", [flags](std::string_view text) { return SetWorkers(text, &flags->workers); },
      [] { return std::string(); }, "name=role=address of a worker; repeatable, or with commas");
  list->Path("ready_file", &flags->ready_file,
             "written once the ports are open: JSON with the addresses {\"http\", \"grpc\", "
             "\"local\"}");
  list->Path("local_socket", &flags->local_socket,
             "Unix socket where this user's own programs have the gRPC API without a key");
}

absl::Status FindCluster(GatewayFlags* flags) {
  if (!flags->run_folder.empty()) {
    const RunFolder folder{flags->run_folder};
    if (flags->loader.empty()) flags->loader = folder.Address("loader");
    if (flags->local_socket.empty()) flags->local_socket = folder.Socket("gateway");
    if (flags->workers.empty()) {
      TANDEM_ASSIGN_OR_RETURN(const std::vector<WorkerSpec> workers, WorkersOf(flags->devices));
      for (const WorkerSpec& worker : workers)
        flags->workers.push_back({worker.name, worker.role, folder.Address(worker.name)});
    }
  }
  if (flags->loader.empty())
    return absl::InvalidArgumentError("--loader: expected the loader's gRPC address, found none");
  if (flags->workers.empty())
    return absl::InvalidArgumentError("--worker: expected at least one name=role=address");
  return absl::OkStatus();
}

absl::StatusOr<ClusterOptions> MakeClusterOptions(const GatewayFlags& flags) {
  const GatewaySettings& settings = flags.settings;
  ClusterOptions options;
  options.loader_address = flags.loader;
  options.workers = flags.workers;
  std::vector<WorkerRole> roles;
  for (const ClusterWorker& worker : flags.workers) roles.push_back(worker.role);
  options.plan = settings.plan.empty() ? DefaultPlanName(roles) : settings.plan;
  TANDEM_RETURN_IF_ERROR(Annotate(CheckPlanName(options.plan, roles), "--plan"));
  options.cache_folder = UserCacheFolder();
  if (!settings.edge_kinds.empty()) options.edge_kinds = settings.edge_kinds;
  options.activations = settings.activations;
  options.kv_type = settings.kv_type;
  options.context_tokens = settings.context;
  TANDEM_RETURN_IF_ERROR(SetLimits(settings, &options.limits));
  options.step_tokens_given = settings.max_tokens_per_step > 0;
  options.kv_memory_bytes = settings.kv_memory;
  options.max_waiting = settings.queue;
  options.steps_in_flight = settings.steps_in_flight;
  options.micro_batches = settings.micro_batches;
  options.start_timeout = settings.start_timeout;
  options.recovery_timeout = settings.recovery_timeout;
  return options;
}

absl::StatusOr<ClusterWorker> ParseWorker(std::string_view text) {
  const std::size_t first = text.find('=');
  const std::size_t second = first == std::string_view::npos ? first : text.find('=', first + 1);
  if (second == std::string_view::npos || first == 0 || second + 1 == text.size())
    return absl::InvalidArgumentError(Cat("expected name=role=address, found '", text, "'"));
  TANDEM_ASSIGN_OR_RETURN(
      const WorkerRole role,
      ParseEnum<WorkerRole>("role", text.substr(first + 1, second - first - 1)));
  return ClusterWorker{std::string(text.substr(0, first)), role,
                       std::string(text.substr(second + 1))};
}

}  // namespace tandem
