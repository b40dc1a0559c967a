#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/dispatch/cluster.h"

namespace tandem {

// What the command line of tandem-gateway asks for.
struct GatewayFlags {
  std::string http;
  std::string grpc;
  std::string api_key_file;
  std::vector<std::string> allowed_hosts;
  std::string model_id;
  std::string ready_file;
  std::string log_level;
  absl::Duration shutdown_grace;
  ClusterOptions cluster;
};

// Parses the command line (absl flags; --help exits) and checks what can be checked without the
// cluster. Errors name the flag.
absl::StatusOr<GatewayFlags> ParseGatewayFlags(int argc, char** argv);

// "name=role=address", as --worker takes it. The address may contain '='.
absl::StatusOr<ClusterWorker> ParseWorker(std::string_view text);

}  // namespace tandem
