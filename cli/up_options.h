#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/cluster_files.h"
#include "lib/service/cluster_layout.h"
#include "lib/service/cluster_settings.h"

namespace tandem {

// What `tandem up` starts: the settings of each program, handed on as they are, and which workers
// there are.
struct UpOptions : ClusterSettings {
  std::vector<WorkerSpec> workers;  // made from the devices by FinishOptions
};

// Makes `workers` and the default plan, makes paths absolute, and checks what can be checked
// without devices. Errors name the flag.
absl::Status FinishOptions(UpOptions* options);

enum class ProcessKind { kLoader, kWorker, kGateway };

struct ProcessSpec {
  std::string name;  // "loader", "gpu0", "gateway"
  ProcessKind kind = ProcessKind::kLoader;
  std::vector<std::string> command;  // program path and arguments
};

// The processes of a cluster and their command lines, in the order in which they are started. Inner
// addresses are Unix sockets in the runtime folder; only the gateway's two public addresses come
// from the options.
std::vector<ProcessSpec> ProcessesOf(const UpOptions& options, const ClusterPaths& paths,
                                     const std::string& program_folder);
ProcessSpec GatewayProcess(const UpOptions& options, const ClusterPaths& paths,
                           const std::string& program_folder);

// Where the gateway writes its public addresses once it listens.
std::string GatewayReadyFile(const ClusterPaths& paths);
std::string LoaderAddress(const ClusterPaths& paths);
// Where the gateway serves this user's own programs, without a key.
std::string GatewaySocket(const ClusterPaths& paths);

}  // namespace tandem
