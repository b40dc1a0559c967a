#include "cli/launch.h"

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

std::string Address(const ClusterPaths& paths, const std::string& process) {
  return absl::StrCat("unix:", paths.Socket(process));
}

ProcessSpec LoaderSpec(const ClusterOptions& o, const ClusterPaths& paths,
                       const std::string& folder) {
  return {"loader",
          ProcessRole::kLoader,
          {folder + "/tandem-loader", "--model=" + o.model, "--quant=" + o.quant,
           "--listen=" + LoaderAddress(paths), "--region_socket=" + paths.Socket("regions"),
           "--log_level=" + o.log_level}};
}

ProcessSpec WorkerSpec(const WorkerOptions& w, const ClusterOptions& o, const ClusterPaths& paths,
                       const std::string& folder) {
  ProcessSpec spec{
      w.name,
      ProcessRole::kWorker,
      {folder + (w.role == "gpu" ? "/tandem-gpu-worker" : "/tandem-npu-worker"), "--name=" + w.name,
       "--device=" + w.device, "--listen=" + Address(paths, w.name),
       "--fd_socket=" + paths.Socket(w.name + ".fd"), "--log_level=" + o.log_level}};
  if (w.role == "gpu") spec.command.push_back("--weights=" + o.gpu_weights);
  if (w.role == "npu" && o.threads > 0)
    spec.command.push_back(absl::StrCat("--threads=", o.threads));
  return spec;
}

ProcessSpec GatewaySpec(const ClusterOptions& o, const ClusterPaths& paths,
                        const std::string& folder) {
  ProcessSpec spec{
      "gateway",
      ProcessRole::kGateway,
      {folder + "/tandem-gateway", "--http=" + o.http, "--grpc=" + o.grpc,
       "--loader=" + LoaderAddress(paths), "--plan=" + o.plan, "--activations=" + o.activations,
       "--ready_file=" + GatewayReadyFile(paths), "--log_level=" + o.log_level}};
  std::string workers;
  for (const WorkerOptions& w : o.workers) {
    absl::StrAppend(&workers, workers.empty() ? "" : ",", w.name, "=", w.role, "=",
                    Address(paths, w.name));
  }
  spec.command.push_back("--worker=" + workers);
  if (!o.kv_type.empty()) spec.command.push_back("--kv_type=" + o.kv_type);
  if (!o.edge_kinds.empty()) spec.command.push_back("--edge_kinds=" + o.edge_kinds);
  if (!o.api_key_file.empty()) spec.command.push_back("--api_key_file=" + o.api_key_file);
  if (!o.model_id.empty()) spec.command.push_back("--model_id=" + o.model_id);
  if (o.context > 0) spec.command.push_back(absl::StrCat("--context=", o.context));
  if (o.max_sequences > 0)
    spec.command.push_back(absl::StrCat("--max_sequences=", o.max_sequences));
  return spec;
}

}  // namespace

std::string GatewayReadyFile(const ClusterPaths& paths) { return paths.runtime + "/gateway.ready"; }

std::string LoaderAddress(const ClusterPaths& paths) { return Address(paths, "loader"); }

std::vector<ProcessSpec> ProcessesOf(const ClusterOptions& options, const ClusterPaths& paths,
                                     const std::string& program_folder) {
  std::vector<ProcessSpec> specs;
  specs.push_back(LoaderSpec(options, paths, program_folder));
  for (const WorkerOptions& w : options.workers)
    specs.push_back(WorkerSpec(w, options, paths, program_folder));
  specs.push_back(GatewaySpec(options, paths, program_folder));
  return specs;
}

}  // namespace tandem
