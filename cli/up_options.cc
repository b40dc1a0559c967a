#include "cli/up_options.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/plan.h"
#include "lib/service/api_keys.h"

namespace tandem {
namespace {

// The settings that differ from their defaults, as arguments of the program whose flags these are.
template <typename Settings>
void AppendChanged(void (*add)(FlagList*, Settings*), const Settings& settings,
                   std::vector<std::string>* command) {
  FlagList flags;
  Settings changed;
  add(&flags, &changed);
  changed = settings;
  for (std::string& argument : flags.Changed()) command->push_back(std::move(argument));
}

// What every process takes.
void AppendCommon(const UpOptions& o, std::vector<std::string>* command) {
  AppendChanged(AddClusterTlsFlags, o.tls, command);
  AppendChanged(AddSandboxFlags, o.sandbox, command);
  AppendChanged(AddLogFlags, o.log, command);
}

RunFolder FolderOf(const ClusterPaths& paths) { return {paths.runtime}; }

ProcessSpec LoaderProcess(const UpOptions& o, const ClusterPaths& paths,
                          const std::string& folder) {
  // A loader that died takes back what they still have mapped.
  const RunFolder run = FolderOf(paths);
  std::string sockets;
  for (const WorkerSpec& w : o.workers)
    sockets += Cat(sockets.empty() ? "" : ",", run.DescriptorSocket(w.name));
  ProcessSpec spec{"loader",
                   ProcessKind::kLoader,
                   {folder + "/tandem-loader", "--only_flags", "--listen=" + LoaderAddress(paths),
                    "--region_socket=" + run.RegionSocket(), "--adopt_from=" + sockets}};
  AppendChanged(AddLoaderFlags, o.loader, &spec.command);
  AppendChanged(AddWatchFlags, o.watch, &spec.command);
  AppendCommon(o, &spec.command);
  return spec;
}

ProcessSpec WorkerProcess(const WorkerSpec& w, const UpOptions& o, const ClusterPaths& paths,
                          const std::string& folder) {
  ProcessSpec spec{
      w.name,
      ProcessKind::kWorker,
      {Cat(folder, "/tandem-", NameOf(w.role), "-worker"), "--only_flags", "--name=" + w.name,
       "--device=" + w.device, "--listen=" + FolderOf(paths).Address(w.name),
       "--fd_socket=" + FolderOf(paths).DescriptorSocket(w.name)}};
  if (w.role == WorkerRole::kGpu) AppendChanged(AddVulkanDeviceFlags, o.vulkan, &spec.command);
  if (w.role == WorkerRole::kNpu) {
    AppendChanged(AddCpuDeviceFlags, o.cpu, &spec.command);
    AppendChanged(AddNpuDeviceFlags, o.npu, &spec.command);
  }
  AppendChanged(AddWatchFlags, o.watch, &spec.command);
  AppendCommon(o, &spec.command);
  return spec;
}

}  // namespace

absl::Status FinishOptions(UpOptions* options) {
  std::string& model = options->loader.model;
  if (model.empty()) {
    return absl::InvalidArgumentError(
        "--model: expected the path of a GGUF file, a safetensors file or a folder, found nothing");
  }
  std::error_code error;
  if (!std::filesystem::exists(model, error))
    return absl::NotFoundError(Cat("--model: '", model, "' does not exist"));
  model = std::filesystem::absolute(model).string();
  std::string& keys = options->gateway.api_key_file;
  if (!keys.empty()) {
    TANDEM_RETURN_IF_ERROR(Annotate(NeedKeyRules(keys).status(), "--api_key_file"));
    keys = std::filesystem::absolute(keys).string();
  }
  GatewaySettings& gateway = options->gateway;
  ClusterTlsSettings& tls = options->tls;
  for (std::string* file : {&gateway.tls_cert, &gateway.tls_key, &gateway.tls_client_ca,
                            &tls.cluster_cert, &tls.cluster_key, &tls.cluster_ca}) {
    if (!file->empty()) *file = std::filesystem::absolute(*file).string();
  }
  TANDEM_ASSIGN_OR_RETURN(options->workers, WorkersOf(options->devices));
  std::vector<WorkerRole> roles;
  for (const WorkerSpec& worker : options->workers) roles.push_back(worker.role);
  std::string& plan = options->gateway.plan;
  if (plan.empty()) plan = DefaultPlanName(roles);
  const absl::Status planned = Annotate(CheckPlanName(plan, roles), "--plan");
  if (planned.ok() || (options->devices.npu != "none" && options->devices.gpu != "none"))
    return planned;
  return absl::InvalidArgumentError(Cat(planned.message(), " (--npu ", options->devices.npu,
                                        ", --gpu ", options->devices.gpu,
                                        "; --npu cpu runs the NPU's part on the CPU)"));
}

std::string GatewayReadyFile(const ClusterPaths& paths) { return paths.runtime + "/gateway.ready"; }

std::string GatewaySocket(const ClusterPaths& paths) { return FolderOf(paths).Address("gateway"); }

std::string LoaderAddress(const ClusterPaths& paths) { return FolderOf(paths).Address("loader"); }

ProcessSpec GatewayProcess(const UpOptions& o, const ClusterPaths& paths,
                           const std::string& folder) {
  ProcessSpec spec{"gateway",
                   ProcessKind::kGateway,
                   {folder + "/tandem-gateway", "--only_flags", "--loader=" + LoaderAddress(paths),
                    "--ready_file=" + GatewayReadyFile(paths),
                    "--local_socket=" + FolderOf(paths).Socket("gateway")}};
  for (const WorkerSpec& w : o.workers) {
    spec.command.push_back(
        Cat("--worker=", w.name, "=", NameOf(w.role), "=", FolderOf(paths).Address(w.name)));
  }
  AppendChanged(AddGatewayFlags, o.gateway, &spec.command);
  AppendCommon(o, &spec.command);
  return spec;
}

std::vector<ProcessSpec> ProcessesOf(const UpOptions& options, const ClusterPaths& paths,
                                     const std::string& program_folder) {
  std::vector<ProcessSpec> specs;
  specs.push_back(LoaderProcess(options, paths, program_folder));
  for (const WorkerSpec& w : options.workers)
    specs.push_back(WorkerProcess(w, options, paths, program_folder));
  specs.push_back(GatewayProcess(options, paths, program_folder));
  return specs;
}

}  // namespace tandem
