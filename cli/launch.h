#pragma once

#include <string>
#include <vector>

#include "cli/cluster_options.h"
#include "cli/paths.h"

namespace tandem {

enum class ProcessRole { kLoader, kWorker, kGateway };

struct ProcessSpec {
  std::string name;  // "loader", "gpu0", "gateway"
  ProcessRole role = ProcessRole::kLoader;
  std::vector<std::string> command;  // program path and arguments
};

// The processes of a cluster and their command lines, in the order in which they are started. Inner
// addresses are Unix sockets in the runtime folder; only the gateway's two public addresses come
// from the options.
std::vector<ProcessSpec> ProcessesOf(const ClusterOptions& options, const ClusterPaths& paths,
                                     const std::string& program_folder);

// Where the gateway writes its public addresses once it listens.
std::string GatewayReadyFile(const ClusterPaths& paths);
std::string LoaderAddress(const ClusterPaths& paths);

}  // namespace tandem
