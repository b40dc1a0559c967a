#include "cli/up_options.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_split.h"
#include "lib/base/status_macros.h"
#include "lib/base/strings.h"
#include "lib/model/plan.h"
#include "lib/service/api_keys.h"

namespace tandem {
namespace {

using Json = nlohmann::json;

absl::StatusOr<Json> ParseConfig(const std::string& text) {
  try {
    return Json::parse(text, nullptr, /*allow_exceptions=*/true, /*ignore_comments=*/true);
  } catch (const Json::exception& e) {
    // "[json.exception.parse_error.101] parse error at line 3, column 5: ..."
    const std::string what = e.what();
    const std::size_t end = what.find("] ");
    return absl::InvalidArgumentError(
        Cat("expected JSON, found a ", end == std::string::npos ? what : what.substr(end + 2)));
  }
}

absl::Status ApplyConfig(const std::string& text, FlagList* flags) {
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseConfig(text));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        Cat("expected an object with the names of flags, found ", json.type_name()));
  }
  for (const auto& [key, value] : json.items()) {
    if (value.is_structured() || value.is_null()) {
      return absl::InvalidArgumentError(
          Cat("'", key, "': expected a text, a number, true or false, found ", value.type_name()));
    }
    TANDEM_RETURN_IF_ERROR(
        flags->Configure(key, value.is_string() ? value.get<std::string>() : value.dump()));
  }
  return absl::OkStatus();
}

absl::Status AddWorkers(WorkerRole role, const std::string& devices,
                        std::vector<WorkerOptions>* workers) {
  if (devices == "none") return absl::OkStatus();
  int number = 0;
  for (const std::string& device : std::vector<std::string>(absl::StrSplit(devices, ','))) {
    if (device.empty() || device == "none") {
      return absl::InvalidArgumentError(Cat(
          "--", NameOf(role), ": expected device names with commas between them, or 'none' alone, ",
          "found '", devices, "'"));
    }
    if (role == WorkerRole::kNpu && device != "cpu" && device != "xrt") {
      return absl::InvalidArgumentError(
          Cat("--npu: expected one of cpu, xrt, none, found '", device, "'"));
    }
    workers->push_back({Cat(NameOf(role), number++), role, device});
  }
  return absl::OkStatus();
}

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

std::string Address(const ClusterPaths& paths, const std::string& process) {
  return Cat("unix:", paths.Socket(process));
}

ProcessSpec LoaderProcess(const UpOptions& o, const ClusterPaths& paths,
                          const std::string& folder) {
  // A loader that died takes back what they still have mapped.
  std::string sockets;
  for (const WorkerOptions& w : o.workers)
    sockets += Cat(sockets.empty() ? "" : ",", paths.Socket(w.name + ".fd"));
  ProcessSpec spec{"loader",
                   ProcessKind::kLoader,
                   {folder + "/tandem-loader", "--listen=" + LoaderAddress(paths),
                    "--region_socket=" + paths.Socket("regions"), "--adopt_from=" + sockets}};
  AppendChanged(AddLoaderFlags, o.loader, &spec.command);
  AppendChanged(AddLogFlags, o.log, &spec.command);
  return spec;
}

ProcessSpec WorkerProcess(const WorkerOptions& w, const UpOptions& o, const ClusterPaths& paths,
                          const std::string& folder) {
  ProcessSpec spec{w.name,
                   ProcessKind::kWorker,
                   {Cat(folder, "/tandem-", NameOf(w.role), "-worker"), "--name=" + w.name,
                    "--device=" + w.device, "--listen=" + Address(paths, w.name),
                    "--fd_socket=" + paths.Socket(w.name + ".fd")}};
  if (w.role == WorkerRole::kGpu) AppendChanged(AddVulkanDeviceFlags, o.vulkan, &spec.command);
  if (w.role == WorkerRole::kNpu) AppendChanged(AddCpuDeviceFlags, o.cpu, &spec.command);
  AppendChanged(AddLogFlags, o.log, &spec.command);
  return spec;
}

}  // namespace

void AddUpFlags(FlagList* flags, UpOptions* o) {
  AddLoaderFlags(flags, &o->loader);
  flags->Text("npu", &o->npu,
              "what the npu-worker runs on: xrt (the NPU), cpu (the CPU device, by name only) or "
              "none; several with commas");
  flags->Text("gpu", &o->gpu,
              "Vulkan device: auto (a GPU), a part of a device's name or its number (tandem doctor "
              "shows both; a software driver such as llvmpipe runs only where it is named), or "
              "none; several with commas");
  AddGatewayFlags(flags, &o->gateway);
  AddCpuDeviceFlags(flags, &o->cpu);
  AddVulkanDeviceFlags(flags, &o->vulkan);
  AddLogFlags(flags, &o->log);
}

absl::Status ApplyConfigFile(const std::string& file, FlagList* flags) {
  std::error_code error;
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  if (in && !std::filesystem::is_directory(file, error)) text << in.rdbuf();
  if (!in || std::filesystem::is_directory(file, error)) {
    return absl::NotFoundError(
        Cat("--config: '", file, "' cannot be read: ", std::strerror(errno != 0 ? errno : EISDIR)));
  }
  return Annotate(ApplyConfig(text.str(), flags), Cat("--config: '", file, "'"));
}

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
    TANDEM_RETURN_IF_ERROR(Annotate(ReadApiKeyFile(keys).status(), "--api_key_file"));
    keys = std::filesystem::absolute(keys).string();
  }
  options->workers.clear();
  TANDEM_RETURN_IF_ERROR(AddWorkers(WorkerRole::kNpu, options->npu, &options->workers));
  TANDEM_RETURN_IF_ERROR(AddWorkers(WorkerRole::kGpu, options->gpu, &options->workers));
  if (options->workers.empty()) {
    return absl::InvalidArgumentError(
        "--npu and --gpu: expected at least one device, found 'none' for both");
  }
  std::vector<WorkerRole> roles;
  for (const WorkerOptions& worker : options->workers) roles.push_back(worker.role);
  std::string& plan = options->gateway.plan;
  if (plan.empty()) plan = DefaultPlanName(roles);
  const absl::Status planned = Annotate(CheckPlanName(plan, roles), "--plan");
  if (planned.ok() || (options->npu != "none" && options->gpu != "none")) return planned;
  return absl::InvalidArgumentError(Cat(planned.message(), " (--npu ", options->npu, ", --gpu ",
                                        options->gpu,
                                        "; --npu cpu runs the NPU's part on the CPU)"));
}

std::string GatewayReadyFile(const ClusterPaths& paths) { return paths.runtime + "/gateway.ready"; }

std::string LoaderAddress(const ClusterPaths& paths) { return Address(paths, "loader"); }

ProcessSpec GatewayProcess(const UpOptions& o, const ClusterPaths& paths,
                           const std::string& folder) {
  ProcessSpec spec{"gateway",
                   ProcessKind::kGateway,
                   {folder + "/tandem-gateway", "--loader=" + LoaderAddress(paths),
                    "--ready_file=" + GatewayReadyFile(paths)}};
  for (const WorkerOptions& w : o.workers) {
    spec.command.push_back(
        Cat("--worker=", w.name, "=", NameOf(w.role), "=", Address(paths, w.name)));
  }
  AppendChanged(AddGatewayFlags, o.gateway, &spec.command);
  AppendChanged(AddLogFlags, o.log, &spec.command);
  return spec;
}

std::vector<ProcessSpec> ProcessesOf(const UpOptions& options, const ClusterPaths& paths,
                                     const std::string& program_folder) {
  std::vector<ProcessSpec> specs;
  specs.push_back(LoaderProcess(options, paths, program_folder));
  for (const WorkerOptions& w : options.workers)
    specs.push_back(WorkerProcess(w, options, paths, program_folder));
  specs.push_back(GatewayProcess(options, paths, program_folder));
  return specs;
}

}  // namespace tandem
