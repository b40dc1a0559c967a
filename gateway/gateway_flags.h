#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/dispatch/cluster.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/flags.h"

namespace tandem {

// What the command line of tandem-gateway asks for: the settings that a person chooses, and what
// only the one who starts the cluster's processes knows.
struct GatewayFlags {
  GatewaySettings settings;
  DeviceSettings devices;
  LogSettings log;
  std::string run_folder;
  std::string loader;
  std::vector<ClusterWorker> workers;
  std::string ready_file;
  std::string local_socket;
  ClusterTlsSettings tls;
  SandboxSettings sandbox;
};
void AddFlags(FlagList* list, GatewayFlags* flags);

// Fills in where loader and workers are, from the run folder, and checks that they are known.
absl::Status FindCluster(GatewayFlags* flags);

// The cluster that the flags describe. Checks what can be checked without it; errors name the flag.
absl::StatusOr<ClusterOptions> MakeClusterOptions(const GatewayFlags& flags);

// "name=role=address", as --worker takes it. The address may contain '='.
absl::StatusOr<ClusterWorker> ParseWorker(std::string_view text);

}  // namespace tandem
